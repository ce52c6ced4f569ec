"""Prefect variables: what a server tells of itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from deployments.difference import Values

if TYPE_CHECKING:
    from prefect.client.orchestration import PrefectClient


class Variables:
    """The declared variables; others are not ours.

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
        return {name: {"value": value} for name, value in self._declared.items()}

    async def actual(self) -> Values:
        """Those of them that are there."""
        found = [await self._client.read_variable_by_name(name) for name in self._declared]
        return {each.name: {"value": each.value} for each in found if each}

    async def put(self, name: str) -> None:
        """Set one."""
        from prefect.client.schemas.actions import VariableCreate, VariableUpdate

        value = self._declared[name]
        if name in await self.actual():
            await self._client.update_variable(VariableUpdate(name=name, value=value))
        else:
            await self._client.create_variable(VariableCreate(name=name, value=value))

    async def remove(self, name: str) -> None:
        """Nothing of this kind is ever removed."""
