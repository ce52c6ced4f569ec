"""Prefect's REST API, as far as starting deployments and following their runs needs it.

Importing Prefect takes seconds, a request milliseconds: whatever only triggers or reads uses this.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from functools import cached_property
from typing import Any
from urllib.parse import quote

from deployments.prefect_api.connection import Connection
from deployments.prefect_api.models import (
    Artifact,
    Deployment,
    FlowRun,
    LogLine,
    Progress,
    State,
    WorkPool,
)
from tasks.core.errors import TransientError

_PAGE = 200
INFO = 20  # level of a log line


class PrefectAPI(Connection):
    """A client of one Prefect server."""

    def ui_url(self, run: FlowRun | str | None = None) -> str:
        """Return the address of the UI, or of a run in it."""
        if run is None:
            return self.ui_root
        return f"{self.ui_root}/runs/flow-run/{run if isinstance(run, str) else run.id}"

    def approval_url(self, run: FlowRun) -> str:
        """Return the address of a suspended run, where its form can be read and sent."""
        return f"{self.form_root}/runs/flow-run/{run.id}"

    # Deployments and work pools

    def find_deployment(self, name: str) -> Deployment | None:
        """Return a deployment by its name, `flow/deployment`; None if there is none."""
        row = self.request("GET", f"/deployments/name/{quote(name)}", optional=True)
        return Deployment(row["id"], name, row["work_pool_name"]) if row else None

    def list_deployments(self, flow: str | None = None) -> set[str]:
        """Return the names of all deployments, or of those of one flow, as `flow/deployment`."""
        query = {"flows": {"name": {"any_": [flow]}}} if flow else {}
        rows = self.post("/deployments/filter", {**query, "limit": _PAGE})
        return {f"{self._flow_name(row['flow_id'])}/{row['name']}" for row in rows}

    def read_work_pool(self, name: str) -> WorkPool:
        """Return a work pool and its workers."""
        row = self.get(f"/work_pools/{quote(name)}")
        workers = self.post(f"/work_pools/{quote(name)}/workers/filter", {})
        return WorkPool(
            name,
            paused=row["is_paused"],
            needs_worker=not row["type"].endswith((":push", ":managed")),
            online=tuple(worker["name"] for worker in workers if worker["status"] == "ONLINE"),
        )

    def last_heartbeat(self, pool: str) -> datetime | None:
        """Return the time of the newest heartbeat of a work pool's workers."""
        rows = self.post(f"/work_pools/{pool}/workers/filter", {})
        return max(
            (datetime.fromisoformat(row["last_heartbeat_time"]) for row in rows), default=None
        )

    # Runs

    def create_run(
        self,
        deployment: str,
        parameters: Mapping[str, Any],
        *,
        idempotency_key: str | None = None,
        name: str | None = None,
        tags: Sequence[str] = (),
    ) -> FlowRun:
        """Create a run of a deployment, scheduled for now.

        Args:
            deployment: `flow/deployment`.
            parameters: Parameters that differ from the deployment's own.
            idempotency_key: The same key gets the same run, even one that failed: put the attempt
                into the key where a new try is meant.
            name: Name of the run until it starts and names itself.
            tags: Tags of the run, beside the deployment's.

        Raises:
            TerminalError: No such deployment, or parameters it does not accept.
            TransientError: The server does not answer.
        """
        row = self.get(f"/deployments/name/{quote(deployment)}")
        body: dict[str, Any] = {"parameters": dict(parameters), "tags": list(tags)}
        if idempotency_key:
            body["idempotency_key"] = idempotency_key
        if name:
            body["name"] = name
        return self._make_run(self.post(f"/deployments/{row['id']}/create_flow_run", body))

    def find_run(self, flow: str, idempotency_key: str) -> FlowRun | None:
        """Return the run of a flow that was created with a key; None if there is none."""
        query = {
            "flows": {"name": {"any_": [flow]}},
            "flow_runs": {"idempotency_key": {"any_": [idempotency_key]}},
        }
        rows = self.post("/flow_runs/filter", query)
        return self._make_run(rows[0]) if rows else None

    def read_run(self, run_id: str) -> FlowRun:
        """Return a run by its id."""
        return self._make_run(self.get(f"/flow_runs/{run_id}"))

    def read_subflow_runs(self, run_ids: Sequence[str]) -> list[FlowRun]:
        """Return the subflow runs of some runs, in the order they started."""
        query = {
            "flow_runs": {"parent_flow_run_id": {"any_": list(run_ids)}},
            "sort": "START_TIME_ASC",
            "limit": _PAGE,
        }
        return [self._make_run(row) for row in self.post("/flow_runs/filter", query)]

    def read_run_tree(self, run_id: str) -> tuple[FlowRun, ...]:
        """Return a run followed by its subflow runs and theirs."""
        tree = [self.read_run(run_id)]
        generation = [run_id]
        while generation and (subflow_runs := self.read_subflow_runs(generation)):
            tree += subflow_runs
            generation = [run.id for run in subflow_runs]
        return tuple(tree)

    def find_runs(
        self,
        states: Sequence[str] = (),
        *,
        deployment: str | None = None,
        tags: Sequence[str] = (),
        name: str | None = None,
        flows: Sequence[str] = (),
        started: bool = False,
        limit: int = _PAGE,
    ) -> list[FlowRun]:
        """Return runs, newest first.

        Args:
            states: Types of state; only runs in one of them.
            deployment: `flow/deployment`; only runs of this one.
            tags: Only runs with all of these tags.
            name: Part of the runs' names.
            flows: Names of flows; only their runs.
            started: Only runs that have started, so no planned ones.
            limit: How many at most.
        """
        conditions: dict[str, Any] = {}
        if states:
            conditions["state"] = {"type": {"any_": list(states)}}
        if tags:
            conditions["tags"] = {"all_": list(tags)}
        if name:
            conditions["name"] = {"like_": name}
        if started:
            conditions["start_time"] = {"is_null_": False}
        query: dict[str, Any] = {
            "flow_runs": conditions,
            "sort": "EXPECTED_START_TIME_DESC",
            "limit": limit,
        }
        if flows:
            query["flows"] = {"name": {"any_": list(flows)}}
        if deployment:
            flow, _, own_name = deployment.partition("/")
            query["flows"] = {"name": {"any_": [flow]}}
            query["deployments"] = {"name": {"any_": [own_name]}}
        return [self._make_run(row) for row in self.post("/flow_runs/filter", query)]

    def force_state(self, run_id: str, state: State) -> None:
        """Put a run into a state, whatever its present one."""
        self.post(f"/flow_runs/{run_id}/set_state", {"state": asdict(state), "force": True})

    def follow(
        self, run_id: str, *, every: float = 0.5, patience: float = 60.0
    ) -> Iterator[Progress]:
        """Follow a run until it is final.

        Args:
            run_id: The run.
            every: Seconds between two requests, unless an event of the run comes.
            patience: Seconds for which the server may be away meanwhile.

        Yields:
            The progress; the last one is final.

        Raises:
            TransientError: The server was away for longer than that.
        """
        deadline = time.monotonic() + patience
        with self.run_events(run_id) as events:
            while True:
                try:
                    runs = self.read_run_tree(run_id)
                    lines = self.read_logs([run.id for run in runs], count=1)
                except TransientError:
                    if time.monotonic() > deadline:
                        raise
                else:
                    deadline = time.monotonic() + patience
                    yield Progress(runs, lines[-1] if lines else None)
                    if runs[0].finished:
                        return
                events.wait(every)

    # What runs leave behind

    def read_logs(
        self, run_ids: Sequence[str], *, count: int = 50, least_level: int = INFO
    ) -> list[LogLine]:
        """Return the newest log lines of some runs, oldest first, each with its task's name.

        Args:
            run_ids: The runs.
            count: How many lines at most.
            least_level: Lines of lower levels are left out.
        """
        query = {
            "logs": {"flow_run_id": {"any_": list(run_ids)}, "level": {"ge_": least_level}},
            "sort": "TIMESTAMP_DESC",
            "limit": min(count, _PAGE),
        }
        rows = self.post("/logs/filter", query)
        self._learn_task_names({row["task_run_id"] for row in rows if row.get("task_run_id")})
        return [
            LogLine(
                row["flow_run_id"],
                datetime.fromisoformat(row["timestamp"]),
                row["message"],
                self._task_names.get(row.get("task_run_id") or "", ""),
            )
            for row in reversed(rows)
        ]

    def read_artifacts(self, run_id: str) -> list[Artifact]:
        """Return the artifacts of a run, the newest first."""
        query = {
            "artifacts": {"flow_run_id": {"any_": [run_id]}},
            "sort": "CREATED_DESC",
            "limit": _PAGE,
        }
        rows = self.post("/artifacts/filter", query)
        return [Artifact(row["key"] or "", row["type"], row["data"]) for row in rows]

    # Blocks and variables

    def list_blocks(self) -> set[str]:
        """Return the names of all block documents."""
        query = {"include_secrets": False, "limit": _PAGE}
        return {row["name"] for row in self.post("/block_documents/filter", query)}

    def read_variable(self, name: str) -> Any:
        """Return the value of a variable; None if there is none of that name."""
        row = self.request("GET", f"/variables/name/{name}", optional=True)
        return row["value"] if row else None

    def set_variable(self, name: str, value: Any) -> None:
        """Create a variable, or change its value."""
        body = {"name": name, "value": value}
        if self.read_variable(name) is None:
            self.post("/variables/", body)
        else:
            self.request("PATCH", f"/variables/name/{name}", body)

    def _make_run(self, row: Mapping[str, Any]) -> FlowRun:
        state = row.get("state") or {}
        return FlowRun(
            id=row["id"],
            name=row["name"],
            flow=self._flow_name(row["flow_id"]),
            state=state.get("type", "PENDING"),
            label=state.get("name", "Pending"),
            message=state.get("message") or "",
            seconds=row.get("estimated_run_time") or row.get("total_run_time") or 0.0,
            end_time=datetime.fromisoformat(row["end_time"]) if row.get("end_time") else None,
            parameters=row.get("parameters") or {},
        )

    @cached_property
    def _flow_names(self) -> dict[str, str]:
        return {}

    def _flow_name(self, flow_id: str) -> str:
        if flow_id not in self._flow_names:
            self._flow_names[flow_id] = self.get(f"/flows/{flow_id}")["name"]
        return self._flow_names[flow_id]

    @cached_property
    def _task_names(self) -> dict[str, str]:
        return {}

    def _learn_task_names(self, task_run_ids: set[str]) -> None:
        """Read the names of task runs that are not known yet, in one request."""
        if unknown := sorted(task_run_ids - self._task_names.keys()):
            query = {"task_runs": {"id": {"any_": unknown}}, "limit": _PAGE}
            rows = self.post("/task_runs/filter", query)
            self._task_names.update({row["id"]: row["name"] for row in rows})
