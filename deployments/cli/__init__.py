"""The command `slipway`, one file per group of subcommands.

It parses, prints and chooses exit codes; the work is done by the rooms beside it. Whatever imports
Prefect or the stack is imported inside a command, so that `slipway --help` answers at once.
"""
