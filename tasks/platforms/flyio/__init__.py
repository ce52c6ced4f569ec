"""Models as machines on Fly.io, switched blue/green."""
