#!/bin/sh
# Workflows call this of the base branch, which may be older than they are: so the path stays.
exec sh "$1/deployments/ci/pull.sh" "$@"
