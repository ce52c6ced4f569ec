"""Heroku, through its Platform API."""
