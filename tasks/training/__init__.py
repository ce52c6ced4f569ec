"""From data to a candidate on origin: the DVC pipeline, the gate, the refs that are published.

It may import `package`, `bucket`, `repository`, `runs` and `core`.
"""
