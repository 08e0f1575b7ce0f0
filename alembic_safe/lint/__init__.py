"""Lint: the statements of revision files and of SQL files, judged before anything runs."""
