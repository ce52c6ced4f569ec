"""Names that the program that talks to a cluster shares with the code that starts it."""

CLUSTER = "cluster"  # `kind` of a problem with which another try may succeed
VERSIONS = "versions"  # `kind` of one that needs all programs in the same versions
