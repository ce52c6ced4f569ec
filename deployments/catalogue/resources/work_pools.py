"""The work pool of all deployments."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from deployments.catalogue.difference import Values

if TYPE_CHECKING:
    from prefect.client.orchestration import PrefectClient
    from prefect.client.schemas.objects import WorkPool

# A pool of another type starts containers, each with variables of its own.
_FIXED_TYPE = "process"


def fix_template(template: Mapping[str, Any], command: str) -> dict[str, Any]:
    """Return a template of jobs in which a run chooses neither command, environment nor folder.

    A placeholder of the template takes the value that a run gives it. Prefect's worker also merges
    a run's `env` into one that the template has, so the template has none: what all runs need of it
    is in the command. A run that sets one of the variables is refused by the server.

    Args:
        template: Prefect's own template.
        command: The command of every run.
    """
    fixed = copy.deepcopy(dict(template))
    fixed["job_configuration"]["command"] = command
    for name in ("env", "working_dir"):
        del fixed["job_configuration"][name]
    variables = fixed["variables"]
    for name in ("command", "env", "working_dir"):
        del variables["properties"][name]
    variables["additionalProperties"] = False
    return fixed


class WorkPools:
    """The one work pool; an existing pool keeps its type.

    Args:
        client: A client of the server.
        name: Name of the pool.
        declared: Its `type`, its `concurrency_limit` and the `command` of its runs.
    """

    kind = "work pool"

    def __init__(self, client: PrefectClient, name: str, declared: Mapping[str, Any]) -> None:
        self._client = client
        self._name = name
        self._declared = declared

    async def desired(self) -> Values:
        """Return the pool, not paused."""
        pool = await self._read()
        kind = pool.type if pool else self._declared["type"]
        values: dict[str, Any] = {
            "concurrency_limit": self._declared.get("concurrency_limit"),
            "is_paused": False,
        }
        if kind == _FIXED_TYPE or pool is None:
            values["base_job_template"] = await self._template(kind)
        return {self._name: values}

    async def actual(self) -> Values:
        """Return the pool if it exists."""
        pool = await self._read()
        if pool is None:
            return {}
        values: dict[str, Any] = {
            "concurrency_limit": pool.concurrency_limit,
            "is_paused": pool.is_paused,
        }
        if pool.type == _FIXED_TYPE:
            values["base_job_template"] = pool.base_job_template
        return {self._name: values}

    async def put(self, name: str) -> None:
        """Create the pool, or set its limit and template and resume it."""
        from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate

        values = (await self.desired())[name]
        if name in await self.actual():
            await self._client.update_work_pool(name, WorkPoolUpdate(**values))
        else:
            pool = WorkPoolCreate(name=name, type=self._declared["type"], **values)
            await self._client.create_work_pool(pool)

    async def remove(self, name: str) -> None:
        """Remove nothing: other repositories may use the pool."""

    async def _read(self) -> WorkPool | None:
        from prefect.exceptions import ObjectNotFound

        try:
            return await self._client.read_work_pool(self._name)
        except ObjectNotFound:
            return None

    async def _template(self, kind: str) -> dict[str, Any]:
        from prefect.workers.utilities import (
            get_default_base_job_template_for_infrastructure_type,
        )

        template = await get_default_base_job_template_for_infrastructure_type(kind) or {}
        return (
            fix_template(template, self._declared["command"]) if kind == _FIXED_TYPE else template
        )
