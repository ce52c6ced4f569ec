"""Automations: actions of the server when something happens to a run."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

from deployments.catalogue.difference import Value, Values

if TYPE_CHECKING:
    from prefect.client.orchestration import PrefectClient
    from prefect.events.schemas.automations import Automation, AutomationCore

# Our names begin with it; such an automation is removed once it is no longer declared.
PREFIX = "slipway: "
_PAGE = 200


class Automations:
    """The automations whose names begin with our prefix.

    A server accepts two of one name. The one with the lowest id stays: another `apply` that has
    created the second one sees both, and chooses the same.
    """

    kind = "automation"

    def __init__(self, client: PrefectClient, declared: Sequence[AutomationCore]) -> None:
        self._client = client
        self._declared = {automation.name: automation for automation in declared}
        self._existing: dict[str, Automation] = {}

    async def desired(self) -> Values:
        """Return the declared automations."""
        return {name: _plain(automation) for name, automation in self._declared.items()}

    async def actual(self) -> Values:
        """Return those on the server; a second one of a name has its id added to the name."""
        by_name = defaultdict(list)
        for automation in await self._read():
            if automation.name.startswith(PREFIX):
                by_name[automation.name].append(automation)
        self._existing = {}
        for name, namesakes in by_name.items():
            first, *others = sorted(namesakes, key=lambda automation: automation.id)
            self._existing[name] = first
            self._existing |= {f"{name} ({other.id})": other for other in others}
        return {name: _plain(automation) for name, automation in self._existing.items()}

    async def put(self, name: str) -> None:
        """Create or replace an automation."""
        if existing := self._existing.get(name):
            # The client sends what was set alone: one that somebody has disabled would stay so.
            declared = self._declared[name]
            declared = declared.model_copy(update={"enabled": declared.enabled})
            await self._client.update_automation(existing.id, declared)
        else:
            await self._client.create_automation(self._declared[name])

    async def remove(self, name: str) -> None:
        """Remove an automation."""
        await self._client.delete_automation(self._existing[name].id)

    async def _read(self) -> list[Automation]:
        from prefect.client.schemas.sorting import AutomationSort

        automations: list[Automation] = []
        while len(automations) % _PAGE == 0:
            page = await self._client.read_automations(
                sort=AutomationSort.NAME_ASC, limit=_PAGE, offset=len(automations)
            )
            if not page:
                break
            automations += page
        return automations


def _plain(automation: AutomationCore) -> Value:
    from prefect.events.schemas.automations import AutomationCore

    plain: Value = automation.model_dump(include=set(AutomationCore.model_fields))
    return plain
