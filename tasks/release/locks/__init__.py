"""Locks of environments: one deploy at a time, and the others know for whom they wait."""
