"""What flows do, one room a folder: a task wraps one capability.

Imports run down only, in this order, and a contract in `pyproject.toml` says so: `release`,
`reports`, `platforms`, `images`, `training`, `package`, `bucket`, `repository`, `runs`, `core`.
"""
