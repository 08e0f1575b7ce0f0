"""Rules: what is wrong with a statement, why, and what to do instead."""
