"""The parts of a Prefect run that all tasks share: retries, run names, results, secrets, artifacts.

It may import `core`.
"""
