"""The platforms on which models run, one folder each: its settings, its target, its client.

`catalogue` maps a platform's name to its settings and its target. A platform may import `base`,
`images`, `package` and below; `process` and `docker` share `host`. No platform imports another.
"""
