"""Reports: markdown, pictures, model reports, release reports, the timeline of releases.

It may import `platforms` and below.
"""
