"""A release from start to end: its steps as tasks, approval, locks, rollback, and what is live.

It is the top room: it may import every other one.
"""
