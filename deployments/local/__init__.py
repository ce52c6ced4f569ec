"""The local stack: the production code with small servers, in one folder on one machine."""
