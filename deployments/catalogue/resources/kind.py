"""What a Prefect server has of us: one module per kind of thing, all of one shape."""

from __future__ import annotations

from typing import Protocol

from deployments.catalogue.difference import Values


class Resources(Protocol):
    """All things of one kind: what they should be, what they are, and how that is changed.

    Several may be at it at once: what was made or removed meanwhile is no error, for whoever
    changes something looks again afterwards.
    """

    kind: str

    async def desired(self) -> Values:
        """What should be on the server, by name."""

    async def actual(self) -> Values:
        """What is there, by name; of what is not desired, only that which is ours to remove."""

    async def put(self, name: str) -> None:
        """Make one as it should be, whether or not it is there."""

    async def remove(self, name: str) -> None:
        """Remove one."""
