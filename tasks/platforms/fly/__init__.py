"""Fly.io, through its Machines API."""
