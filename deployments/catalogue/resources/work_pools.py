"""The work pool of all deployments."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from deployments.catalogue.difference import Values

if TYPE_CHECKING:
    from prefect.client.orchestration import PrefectClient


class WorkPools:
    """The one work pool; an existing pool keeps its type and template.

    Args:
        client: A client of the server.
        name: Name of the pool.
        declared: Its `type` and `concurrency_limit`.
    """

    kind = "work pool"

    def __init__(self, client: PrefectClient, name: str, declared: Mapping[str, Any]) -> None:
        self._client = client
        self._name = name
        self._declared = declared

    async def desired(self) -> Values:
        """Return the pool, not paused."""
        limit = self._declared.get("concurrency_limit")
        return {self._name: {"concurrency_limit": limit, "is_paused": False}}

    async def actual(self) -> Values:
        """Return the pool if it exists."""
        from prefect.exceptions import ObjectNotFound

        try:
            pool = await self._client.read_work_pool(self._name)
        except ObjectNotFound:
            return {}
        return {
            self._name: {
                "concurrency_limit": pool.concurrency_limit,
                "is_paused": pool.is_paused,
            }
        }

    async def put(self, name: str) -> None:
        """Create the pool, or set its limit and resume it."""
        from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate

        values = (await self.desired())[name]
        if name in await self.actual():
            await self._client.update_work_pool(name, WorkPoolUpdate(**values))
        else:
            pool = WorkPoolCreate(
                name=name,
                type=self._declared["type"],
                base_job_template=await self._template(self._declared["type"]),
                **values,
            )
            await self._client.create_work_pool(pool)

    async def remove(self, name: str) -> None:
        """Remove nothing: other repositories may use the pool."""

    async def _template(self, kind: str) -> dict[str, Any]:
        from prefect.workers.utilities import (
            get_default_base_job_template_for_infrastructure_type,
        )

        template = await get_default_base_job_template_for_infrastructure_type(kind)
        return template or {}
