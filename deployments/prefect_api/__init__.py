"""Prefect's REST API without Prefect: a client that needs httpx alone, and its values."""
