"""Prefect variables: facts about the server's own state."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from deployments.catalogue.difference import Values
from tasks.core.settings import TAG

if TYPE_CHECKING:
    from prefect.client.orchestration import PrefectClient

_PAGE = 200  # the most that a server returns at once


class Variables:
    """The declared variables, and those with our tag.

    Args:
        client: A client of the server.
        declared: Values by name.
    """

    kind = "variable"

    def __init__(self, client: PrefectClient, declared: Mapping[str, str]) -> None:
        self._client = client
        self._declared = declared

    async def desired(self) -> Values:
        """Return the declared variables."""
        return {name: {"value": value, "tags": [TAG]} for name, value in self._declared.items()}

    async def actual(self) -> Values:
        """Return those on the server that are declared or have our tag."""
        return {
            variable.name: {"value": variable.value, "tags": variable.tags}
            for variable in await self._client.read_variables(limit=_PAGE)
            if variable.name in self._declared or TAG in variable.tags
        }

    async def put(self, name: str) -> None:
        """Create a variable, or set its value."""
        from prefect.client.schemas.actions import VariableCreate, VariableUpdate

        value = self._declared[name]
        if name in await self.actual():
            update = VariableUpdate(name=name, value=value, tags=[TAG])
            await self._client.update_variable(update)
        else:
            await self._client.create_variable(VariableCreate(name=name, value=value, tags=[TAG]))

    async def remove(self, name: str) -> None:
        """Remove a variable."""
        await self._client.delete_variable_by_name(name)
