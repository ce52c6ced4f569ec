"""Prefect variables: what a server tells of itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from deployments.catalogue.difference import Values
from tasks.core.settings import TAG

if TYPE_CHECKING:
    from prefect.client.orchestration import PrefectClient

_MOST = 200  # of them a server gives at once


class Variables:
    """The declared variables, and those with our tag; others are not ours.

    Args:
        client: The server.
        declared: Their values, by name.
    """

    kind = "variable"

    def __init__(self, client: PrefectClient, declared: Mapping[str, str]) -> None:
        self._client = client
        self._declared = declared

    async def desired(self) -> Values:
        """The declared values."""
        return {name: {"value": each, "tags": [TAG]} for name, each in self._declared.items()}

    async def actual(self) -> Values:
        """Those that are there and ours."""
        return {
            each.name: {"value": each.value, "tags": each.tags}
            for each in await self._client.read_variables(limit=_MOST)
            if each.name in self._declared or TAG in each.tags
        }

    async def put(self, name: str) -> None:
        """Set one."""
        from prefect.client.schemas.actions import VariableCreate, VariableUpdate

        value = self._declared[name]
        if name in await self.actual():
            update = VariableUpdate(name=name, value=value, tags=[TAG])
            await self._client.update_variable(update)
        else:
            await self._client.create_variable(VariableCreate(name=name, value=value, tags=[TAG]))

    async def remove(self, name: str) -> None:
        """Remove one."""
        await self._client.delete_variable_by_name(name)
