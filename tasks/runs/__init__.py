"""What belongs to a Prefect run: retries, run names, results, secrets, artifacts.

It may import `core`. Whatever all tasks need of Prefect is here once.
"""
