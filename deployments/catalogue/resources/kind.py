"""The shape of all kinds of resources: what is declared, what exists, how to change it."""

from __future__ import annotations

from typing import Protocol

from deployments.catalogue.difference import Values


class Resources(Protocol):
    """All resources of one kind on a Prefect server.

    Several `apply` may run at once: a resource that another one has created or removed meanwhile is
    no error, since each reads the server again after a change.
    """

    kind: str

    async def desired(self) -> Values:
        """Return the declared resources, by name."""

    async def actual(self) -> Values:
        """Return the resources on the server, by name; undeclared ones only if they are ours."""

    async def put(self, name: str) -> None:
        """Create a resource, or replace it by its declaration."""

    async def remove(self, name: str) -> None:
        """Remove a resource."""
