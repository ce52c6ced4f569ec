"""Names that the program which talks to a cluster and who runs it agree on; nothing more."""

CLUSTER = "cluster"  # `kind` of a problem with which another try may succeed
VERSIONS = "versions"  # `kind` of one that goes when all programs are of the same versions
