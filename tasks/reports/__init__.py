"""What people look at: markdown, pictures, model reports, release notes, the timeline of releases.

It may import `platforms` and below.
"""
