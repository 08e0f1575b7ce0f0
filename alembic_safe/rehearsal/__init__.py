"""Run a sequence of revisions against a scratch server with two application releases."""
