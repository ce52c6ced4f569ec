"""Clients of the platforms that targets release to: what each can do, what its failures mean."""
