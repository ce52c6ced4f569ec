"""The base of every other room: errors, settings, commands, threads, hashes.

It imports no other room, and Prefect only within a run, so that scripts that run one command start
at once.
"""
