"""What every other room needs, without Prefect: errors, settings, commands, threads, hashes.

It imports no other room, and no Prefect when it is imported, so that scripts which only run a
command start at once.
"""
