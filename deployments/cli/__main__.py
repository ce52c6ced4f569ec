"""`python -m deployments.cli`, for code that starts the command with an interpreter of its own."""

from deployments.cli.app import main

main()
