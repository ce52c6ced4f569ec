"""The deployments that `prefect.yaml` declares, with their schedules and concurrency limits."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deployments.catalogue.difference import Value, Values
from deployments.catalogue.prefect_yaml import Manifest
from tasks.core.errors import ConfigurationError
from tasks.core.settings import TAG

if TYPE_CHECKING:
    from uuid import UUID

    from prefect import Flow
    from prefect.client.orchestration import PrefectClient
    from prefect.client.schemas.responses import DeploymentResponse

_PAGE = 200
# What prefect.yaml says of a schedule beside when it is due.
_OF_A_SCHEDULE = frozenset({"active", "parameters", "slug", "replaces"})


class Deployments:
    """All deployments that are declared, or carry our tag.

    Args:
        client: The server.
        manifest: What `prefect.yaml` says.
        checkout: The folder that it and the flows are in.
        pull: The steps by which workers get the code.
        outputs: What templates are filled in with: outputs of the build steps, by their ids.
        schedules: Whether declared schedules are active.
    """

    kind = "deployment"

    def __init__(
        self,
        client: PrefectClient,
        manifest: Manifest,
        checkout: Path,
        pull: list[dict[str, Any]],
        outputs: Mapping[str, Any],
        *,
        schedules: bool,
    ) -> None:
        self._client = client
        self._manifest = manifest
        self._checkout = checkout
        self._pull = pull
        self._outputs = dict(outputs)
        self._schedules = schedules
        self._declared: dict[str, Value] = {}
        self._ids: dict[str, UUID] = {}

    @property
    def ids(self) -> Mapping[str, UUID]:
        """The ids of those that were there at the last look, by name."""
        return self._ids

    async def desired(self) -> Values:
        """What `prefect.yaml` and the flows say."""
        if not self._declared:
            self._declared = dict(map(self._describe, self._manifest.deployments))
        return self._declared

    async def actual(self) -> Values:
        """What the server has, in the same words."""
        declared = await self.desired()
        found: dict[str, Value] = {}
        self._ids = {}
        for name, each in await self._read(declared):
            if name in declared or TAG in each.tags:
                self._ids[name] = each.id
                found[name] = _as_declared(each)
        return found

    async def put(self, name: str) -> None:
        """Create one or replace it; its schedules become those that are declared."""
        from prefect.client.schemas.actions import DeploymentScheduleCreate
        from prefect.client.schemas.objects import ConcurrencyOptions

        value = dict((await self.desired())[name])
        schedules = [
            DeploymentScheduleCreate(slug=slug, **each)
            for slug, each in value.pop("schedules").items()
        ]
        options = value.pop("concurrency_options")
        await self._client.create_deployment(
            flow_id=await self._client.create_flow_from_name(name.partition("/")[0]),
            name=name.partition("/")[2],
            schedules=schedules,
            concurrency_options=ConcurrencyOptions(**options) if options else None,
            **value,
        )

    async def remove(self, name: str) -> None:
        """Remove one that carries our tag, with its schedules and the runs that they planned."""
        await self._client.delete_deployment(self._ids[name])

    def _describe(self, each: dict[str, Any]) -> tuple[str, Value]:
        from prefect.exceptions import PrefectException
        from prefect.flows import load_flow_from_entrypoint
        from prefect.utilities.callables import parameter_schema
        from prefect.utilities.templating import apply_values

        each = apply_values(each, self._outputs)
        entrypoint = str(self._checkout / each["entrypoint"])
        try:
            flow: Flow[..., Any] = load_flow_from_entrypoint(entrypoint)
        except (PrefectException, OSError, SyntaxError) as error:
            raise ConfigurationError(
                f"the entrypoint {each['entrypoint']} in prefect.yaml is no flow: {error}",
                state="deployments are as they were",
                next_step="mend prefect.yaml or the flow",
            ) from error
        limit = each.get("concurrency_limit") or {}
        return f"{flow.name}/{each['name']}", {
            "concurrency_limit": limit.get("limit"),
            "concurrency_options": {k: v for k, v in limit.items() if k != "limit"} or None,
            # What parameters mean is told beside each of them.
            "description": (flow.description or "").partition("\nArgs:")[0].strip(),
            "enforce_parameter_schema": each.get("enforce_parameter_schema", True),
            "entrypoint": each["entrypoint"],
            "job_variables": each["work_pool"].get("job_variables", {}),
            "parameter_openapi_schema": parameter_schema(flow).model_dump(
                mode="json", exclude_unset=True
            ),
            "parameters": each.get("parameters", {}),
            "paused": False,
            "pull_steps": apply_values(self._pull, self._outputs, remove_notset=False),
            "schedules": {
                declared["slug"]: self._schedule(declared) for declared in each.get("schedules", [])
            },
            "tags": sorted(each.get("tags", [])),
            "version": each.get("version"),
            "work_pool_name": each["work_pool"]["name"],
        }

    def _schedule(self, declared: dict[str, Any]) -> dict[str, Any]:
        from prefect.client.schemas.schedules import SCHEDULE_TYPES
        from pydantic import TypeAdapter

        if "interval" in declared and "anchor_date" not in declared:
            raise ConfigurationError(
                f"schedule {declared['slug']} in prefect.yaml has an interval from no date on",
                state="nothing was changed",
                next_step="give it an anchor_date, or a cron",
            )
        when = {key: value for key, value in declared.items() if key not in _OF_A_SCHEDULE}
        schedule = TypeAdapter(SCHEDULE_TYPES).validate_python(when)
        return {
            "schedule": schedule.model_dump(mode="json"),
            "active": self._schedules and declared.get("active", True),
            "parameters": declared.get("parameters", {}),
        }

    async def _read(self, declared: Values) -> list[tuple[str, DeploymentResponse]]:
        from prefect.client.schemas.filters import DeploymentFilter

        own_names = sorted({name.partition("/")[2] for name in declared})
        wanted = DeploymentFilter.model_validate(
            {"operator": "or_", "name": {"any_": own_names}, "tags": {"all_": [TAG]}}
        )
        found: list[DeploymentResponse] = []
        while len(found) % _PAGE == 0:
            page = await self._client.read_deployments(
                deployment_filter=wanted, limit=_PAGE, offset=len(found)
            )
            if not page:
                break
            found += page
        flows = await self._flow_names({each.flow_id for each in found})
        return [(f"{flows[each.flow_id]}/{each.name}", each) for each in found]

    async def _flow_names(self, ids: set[UUID]) -> dict[UUID, str]:
        return {each: (await self._client.read_flow(each)).name for each in ids}


def _as_declared(found: DeploymentResponse) -> Value:
    limit, options = found.global_concurrency_limit, found.concurrency_options
    return {
        "concurrency_limit": limit.limit if limit else None,
        "concurrency_options": options.model_dump(mode="json", exclude_none=True)
        if options
        else None,
        "description": found.description or "",
        "enforce_parameter_schema": found.enforce_parameter_schema,
        "entrypoint": found.entrypoint,
        "job_variables": found.job_variables,
        "parameter_openapi_schema": found.parameter_openapi_schema,
        "parameters": found.parameters,
        "paused": found.paused,
        "pull_steps": found.pull_steps,
        "schedules": {
            each.slug or str(each.id): {
                "schedule": each.schedule.model_dump(mode="json"),
                "active": each.active,
                "parameters": each.parameters,
            }
            for each in found.schedules
        },
        "tags": sorted(found.tags),
        "version": found.version,
        "work_pool_name": found.work_pool_name,
    }
