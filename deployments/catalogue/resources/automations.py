"""Automations: what the server does by itself when something happens to a run."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

from deployments.catalogue.difference import Value, Values

if TYPE_CHECKING:
    from prefect.client.orchestration import PrefectClient
    from prefect.events.schemas.automations import Automation, AutomationCore

# Names of ours begin so; what does and is not declared is ours to remove.
PREFIX = "slipway: "
_PAGE = 200


class Automations:
    """The automations of which the name says that they are ours.

    A server lets two have one name. Of those the one with the lowest id stays: whoever made another
    meanwhile sees both as well, and comes to the same choice.

    Args:
        client: The server.
        declared: What should be there.
    """

    kind = "automation"

    def __init__(self, client: PrefectClient, declared: Sequence[AutomationCore]) -> None:
        self._client = client
        self._declared = {each.name: each for each in declared}
        self._found: dict[str, Automation] = {}

    async def desired(self) -> Values:
        """What is declared."""
        return {name: _plain(each) for name, each in self._declared.items()}

    async def actual(self) -> Values:
        """What is there; a second one of a name is called after its id as well."""
        by_name = defaultdict(list)
        for each in await self._read():
            if each.name.startswith(PREFIX):
                by_name[each.name].append(each)
        self._found = {}
        for name, those in by_name.items():
            first, *others = sorted(those, key=lambda each: each.id)
            self._found[name] = first
            self._found |= {f"{name} ({each.id})": each for each in others}
        return {name: _plain(each) for name, each in self._found.items()}

    async def put(self, name: str) -> None:
        """Create one or replace it."""
        if found := self._found.get(name):
            await self._client.update_automation(found.id, self._declared[name])
        else:
            await self._client.create_automation(self._declared[name])

    async def remove(self, name: str) -> None:
        """Remove one."""
        await self._client.delete_automation(self._found[name].id)

    async def _read(self) -> list[Automation]:
        from prefect.client.schemas.sorting import AutomationSort

        found: list[Automation] = []
        while len(found) % _PAGE == 0:
            page = await self._client.read_automations(
                sort=AutomationSort.NAME_ASC, limit=_PAGE, offset=len(found)
            )
            if not page:
                break
            found += page
        return found


def _plain(automation: AutomationCore) -> Value:
    from prefect.events.schemas.automations import AutomationCore

    plain: Value = automation.model_dump(include=set(AutomationCore.model_fields))
    return plain
