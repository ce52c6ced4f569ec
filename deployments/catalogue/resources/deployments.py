"""The declared deployments, with their schedules and concurrency limits."""

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
# Keys of a schedule that do not say when it is due.
_SCHEDULE_OPTIONS = frozenset({"active", "parameters", "slug", "replaces"})


class Deployments:
    """The deployments that are declared, or have our tag.

    Args:
        client: A client of the server.
        manifest: The declarations.
        checkout: The repository.
        pull: Steps by which workers get the code.
        outputs: Outputs of the build steps, by their ids; they fill in templates.
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
        self._flows: dict[str, tuple[Flow[..., Any], dict[str, Any]]] = {}
        self._declared: dict[str, Value] = {}
        self._ids: dict[str, UUID] = {}
        self._flow_ids: dict[str, UUID] = {}

    @property
    def ids(self) -> Mapping[str, UUID]:
        """The ids of existing deployments, by name."""
        return self._ids

    async def desired(self) -> Values:
        """Return what `prefect.yaml` and the flows declare."""
        if not self._declared:
            self._declared = dict(map(self._describe, self._manifest.deployments))
        return self._declared

    async def actual(self) -> Values:
        """Return the deployments of the server, in the same form."""
        declared = await self.desired()
        existing: dict[str, Value] = {}
        self._ids, self._flow_ids = {}, {}
        for name, response in await self._read(declared):
            if name in declared or TAG in response.tags:
                self._ids[name] = response.id
                existing[name] = _as_declared(response)
        return existing

    async def put(self, name: str) -> None:
        """Create or replace a deployment and its schedules."""
        from prefect.client.schemas.actions import DeploymentScheduleCreate
        from prefect.client.schemas.objects import ConcurrencyOptions

        value = dict((await self.desired())[name])
        schedules = [
            DeploymentScheduleCreate(slug=slug, **schedule)
            for slug, schedule in value.pop("schedules").items()
        ]
        options = value.pop("concurrency_options")
        flow, _, own_name = name.partition("/")
        if flow not in self._flow_ids:
            self._flow_ids[flow] = await self._client.create_flow_from_name(flow)
        await self._client.create_deployment(
            flow_id=self._flow_ids[flow],
            name=own_name,
            schedules=schedules,
            concurrency_options=ConcurrencyOptions(**options) if options else None,
            **value,
        )

    async def remove(self, name: str) -> None:
        """Remove a deployment, with its schedules and their planned runs."""
        await self._client.delete_deployment(self._ids[name])

    def _describe(self, entry: dict[str, Any]) -> tuple[str, Value]:
        from prefect.utilities.templating import apply_values

        entry = apply_values(entry, self._outputs)
        flow, schema = self._load_flow(entry["entrypoint"])
        limit = entry.get("concurrency_limit") or {}
        return f"{flow.name}/{entry['name']}", {
            "concurrency_limit": limit.get("limit"),
            "concurrency_options": {k: v for k, v in limit.items() if k != "limit"} or None,
            # Each parameter has its own description.
            "description": (flow.description or "").partition("\nArgs:")[0].strip(),
            "enforce_parameter_schema": entry.get("enforce_parameter_schema", True),
            "entrypoint": entry["entrypoint"],
            "job_variables": entry["work_pool"].get("job_variables", {}),
            "parameter_openapi_schema": schema,
            "parameters": entry.get("parameters", {}),
            "paused": False,
            "pull_steps": apply_values(self._pull, self._outputs, remove_notset=False),
            "schedules": {
                declared["slug"]: self._schedule(declared)
                for declared in entry.get("schedules", [])
            },
            "tags": sorted(entry.get("tags", [])),
            "version": entry.get("version"),
            "work_pool_name": entry["work_pool"]["name"],
        }

    def _load_flow(self, entrypoint: str) -> tuple[Flow[..., Any], dict[str, Any]]:
        """Return a flow and the schema of its parameters; deployments of one flow share them."""
        from prefect.exceptions import PrefectException
        from prefect.flows import load_flow_from_entrypoint
        from prefect.utilities.callables import parameter_schema

        if entrypoint not in self._flows:
            try:
                flow: Flow[..., Any] = load_flow_from_entrypoint(str(self._checkout / entrypoint))
            except (PrefectException, OSError, SyntaxError) as error:
                raise ConfigurationError(
                    f"the entrypoint {entrypoint} in prefect.yaml is no flow: {error}",
                    state="deployments are unchanged",
                    next_step="correct deployments/prefect.yaml or the flow, then: slipway apply",
                ) from error
            schema = parameter_schema(flow).model_dump(mode="json", exclude_unset=True)
            self._flows[entrypoint] = (flow, schema)
        return self._flows[entrypoint]

    def _schedule(self, declared: dict[str, Any]) -> dict[str, Any]:
        from prefect.client.schemas.schedules import SCHEDULE_TYPES
        from pydantic import TypeAdapter

        if "interval" in declared and "anchor_date" not in declared:
            raise ConfigurationError(
                f"schedule {declared['slug']} in prefect.yaml has an interval without anchor_date",
                state="nothing was changed",
                next_step="add anchor_date to it, or use cron",
            )
        timing = {key: value for key, value in declared.items() if key not in _SCHEDULE_OPTIONS}
        schedule = TypeAdapter(SCHEDULE_TYPES).validate_python(timing)
        return {
            "schedule": schedule.model_dump(mode="json"),
            "active": self._schedules and declared.get("active", True),
            "parameters": declared.get("parameters", {}),
        }

    async def _read(self, declared: Values) -> list[tuple[str, DeploymentResponse]]:
        from prefect.client.schemas.filters import DeploymentFilter

        own_names = sorted({name.partition("/")[2] for name in declared})
        selection = DeploymentFilter.model_validate(
            {"operator": "or_", "name": {"any_": own_names}, "tags": {"all_": [TAG]}}
        )
        responses: list[DeploymentResponse] = []
        while len(responses) % _PAGE == 0:
            page = await self._client.read_deployments(
                deployment_filter=selection, limit=_PAGE, offset=len(responses)
            )
            if not page:
                break
            responses += page
        flows = await self._flow_names({response.flow_id for response in responses})
        return [(f"{flows[response.flow_id]}/{response.name}", response) for response in responses]

    async def _flow_names(self, ids: set[UUID]) -> dict[UUID, str]:
        return {flow_id: (await self._client.read_flow(flow_id)).name for flow_id in ids}


def _as_declared(response: DeploymentResponse) -> Value:
    limit, options = response.global_concurrency_limit, response.concurrency_options
    return {
        "concurrency_limit": limit.limit if limit else None,
        "concurrency_options": options.model_dump(mode="json", exclude_none=True)
        if options
        else None,
        "description": response.description or "",
        "enforce_parameter_schema": response.enforce_parameter_schema,
        "entrypoint": response.entrypoint,
        "job_variables": response.job_variables,
        "parameter_openapi_schema": response.parameter_openapi_schema,
        "parameters": response.parameters,
        "paused": response.paused,
        "pull_steps": response.pull_steps,
        "schedules": {
            schedule.slug or str(schedule.id): {
                "schedule": schedule.schedule.model_dump(mode="json"),
                "active": schedule.active,
                "parameters": schedule.parameters,
            }
            for schedule in response.schedules
        },
        "tags": sorted(response.tags),
        "version": response.version,
        "work_pool_name": response.work_pool_name,
    }
