"""Environments: named places to deploy to, each a file in `deployments/environments/`."""
