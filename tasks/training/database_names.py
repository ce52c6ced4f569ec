"""Names that programs which talk to a database and who runs them agree on; nothing more."""

URL_VARIABLE = "SLIPWAY_QUERY_DATABASE"  # the database's URL: a list of processes shows none
UNREACHABLE = "connection"  # `kind` of a problem with which another try may succeed
