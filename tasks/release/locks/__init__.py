"""Locks of environments: one deploy at a time, and those that wait know who holds the lock."""
