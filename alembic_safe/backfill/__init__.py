"""Batched data movement."""
