"""Prefect's REST API, as far as starting deployments and following their runs needs it.

Importing Prefect takes seconds, a request milliseconds: whoever only triggers a run uses this.
"""

from __future__ import annotations

import os
import re
import time
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from functools import cache
from typing import Any, Self
from urllib.parse import quote

import httpx

from deployments.prefect_api.models import (
    Artifact,
    Deployment,
    FlowRun,
    LogLine,
    Progress,
    State,
    WorkPool,
)
from tasks.core.errors import ConfigurationError, SlipwayError, TerminalError, TransientError

_PAGE = 200
_CLOUD = re.compile(r"https://api(\.[\w.]+)/api/accounts/([^/]+)/workspaces/([^/]+)")


class PrefectAPI:
    """A client of one Prefect server; use it as a context manager, or close it.

    Args:
        url: The server's API URL: it ends in `/api`, of Prefect Cloud in a workspace's id.
        headers: Added to every request, for instance `Authorization`.
        ui: Where the server's UI is, if that does not follow from the API URL.
    """

    def __init__(
        self, url: str, headers: Mapping[str, str] | None = None, ui: str | None = None
    ) -> None:
        self.url = url.rstrip("/")
        self._ui = (ui or _ui_of(self.url)).rstrip("/")
        # The environment's proxies are not for a server on this machine.
        self._local = "127.0.0.1" in url or "localhost" in url
        self._http = httpx.Client(
            base_url=self.url, headers=headers, timeout=15, trust_env=not self._local
        )
        self._flow_name = cache(lambda flow_id: self._get(f"/flows/{flow_id}")["name"])

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Self:
        """The server that the variables of Prefect's own settings name.

        `PREFECT_API_URL`, and what the server asks for: `PREFECT_API_AUTH_STRING`, the
        `user:password` of a self-hosted server, or `PREFECT_API_KEY`, the key of Prefect Cloud. A
        `PREFECT_API_KEY` with a colon in it, which no key has, is taken for a `user:password`: so
        two secrets do for either. `PREFECT_UI_URL` where the UI is elsewhere than usual.

        Args:
            environment: The variables.

        Returns:
            A client of that server.

        Raises:
            ConfigurationError: `PREFECT_API_URL` is missing or no URL.
        """
        url = environment.get("PREFECT_API_URL", "").strip()
        if not _is_url(url):
            raise ConfigurationError(
                f"PREFECT_API_URL is {'not an http(s) URL' if url else 'not set'}",
                state="nothing was asked for",
                next_step="set it to the API URL of your Prefect server, which ends in /api, or to"
                " that of a workspace of Prefect Cloud (`prefect config view` shows it); on GitHub"
                " it is a secret",
            )
        headers = _authorization(
            key=environment.get("PREFECT_API_KEY", "").strip(),
            user=environment.get("PREFECT_API_AUTH_STRING", "").strip(),
        )
        return cls(url, headers, environment.get("PREFECT_UI_URL"))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the connections."""
        self._http.close()

    def healthy(self) -> bool:
        """Whether the server answers."""
        try:
            return self._http.get("/health", timeout=2).is_success
        except httpx.HTTPError:
            return False

    def ui(self, run: FlowRun | str | None = None) -> str:
        """The address of the UI, or of a run in it."""
        if run is None:
            return self._ui
        return f"{self._ui}/runs/flow-run/{run if isinstance(run, str) else run.id}"

    def deployment(self, name: str) -> Deployment | None:
        """A deployment by its name, `flow/deployment`; None if there is none."""
        found = self._request("GET", f"/deployments/name/{quote(name)}", missing=True)
        return Deployment(found["id"], name, found["work_pool_name"]) if found else None

    def create_run(
        self,
        deployment: str,
        parameters: Mapping[str, Any],
        *,
        idempotency_key: str | None = None,
        name: str | None = None,
        tags: Sequence[str] = (),
    ) -> FlowRun:
        """Ask for a run of a deployment.

        Args:
            deployment: `flow/deployment`.
            parameters: Parameters that differ from the deployment's own.
            idempotency_key: The same key gets the same run, even one that failed: put the attempt
                into the key where a new try is meant.
            name: What it is called until it runs and names itself.
            tags: Tags of the run, beside the deployment's.

        Returns:
            The run, scheduled for now.

        Raises:
            TerminalError: No such deployment, or parameters it does not accept.
            TransientError: The server does not answer.
        """
        found = self._get(f"/deployments/name/{quote(deployment)}")
        body: dict[str, Any] = {"parameters": dict(parameters), "tags": list(tags)}
        if idempotency_key:
            body["idempotency_key"] = idempotency_key
        if name:
            body["name"] = name
        return self._run(self._post(f"/deployments/{found['id']}/create_flow_run", body))

    def run_of_key(self, flow: str, idempotency_key: str) -> FlowRun | None:
        """The run of a flow that was asked for with a key; None if there is none."""
        query = {
            "flows": {"name": {"any_": [flow]}},
            "flow_runs": {"idempotency_key": {"any_": [idempotency_key]}},
        }
        found = self._post("/flow_runs/filter", query)
        return self._run(found[0]) if found else None

    def run(self, run_id: str) -> FlowRun:
        """Read a run."""
        return self._run(self._get(f"/flow_runs/{run_id}"))

    def children(self, run_ids: Sequence[str]) -> list[FlowRun]:
        """The subflow runs of some runs, in the order they were made."""
        query = {
            "flow_runs": {"parent_flow_run_id": {"any_": list(run_ids)}},
            "sort": "START_TIME_ASC",
            "limit": _PAGE,
        }
        return [self._run(each) for each in self._post("/flow_runs/filter", query)]

    def family(self, run_id: str) -> tuple[FlowRun, ...]:
        """A run followed by its subflow runs and theirs."""
        family = [self.run(run_id)]
        generation = [run_id]
        while generation and (young := self.children(generation)):
            family += young
            generation = [each.id for each in young]
        return tuple(family)

    def logs(
        self, run_ids: Sequence[str], *, count: int = 50, least_level: int = 20
    ) -> list[LogLine]:
        """The newest log lines of some runs, oldest first.

        Args:
            run_ids: The runs.
            count: How many lines at most.
            least_level: Lines of lower levels are left out; 20 is INFO.

        Returns:
            The lines.
        """
        query = {
            "logs": {"flow_run_id": {"any_": list(run_ids)}, "level": {"ge_": least_level}},
            "sort": "TIMESTAMP_DESC",
            "limit": min(count, _PAGE),
        }
        found = self._post("/logs/filter", query)
        return [
            LogLine(
                each["flow_run_id"],
                datetime.fromisoformat(each["timestamp"]),
                each["message"],
            )
            for each in reversed(found)
        ]

    def follow(
        self, run_id: str, *, every: float = 0.5, patience: float = 60.0
    ) -> Iterator[Progress]:
        """Follow a run until it is final.

        Args:
            run_id: The run.
            every: Seconds between two looks.
            patience: How long the server may be away meanwhile, in seconds.

        Yields:
            Where the run is; the last one is final.

        Raises:
            TransientError: The server was away for longer than that.
        """
        deadline = time.monotonic() + patience
        while True:
            try:
                runs = self.family(run_id)
                lines = self.logs([each.id for each in runs], count=1)
            except TransientError:
                if time.monotonic() > deadline:
                    raise
            else:
                deadline = time.monotonic() + patience
                yield Progress(runs, lines[-1] if lines else None)
                if runs[0].finished:
                    return
            time.sleep(every)

    def unfinished(
        self, states: Sequence[str], *, deployment: str | None = None, tags: Sequence[str] = ()
    ) -> list[FlowRun]:
        """The runs that are in one of some types of state, newest first.

        Args:
            states: The types of state.
            deployment: Only runs of this one, `flow/deployment`.
            tags: Only runs that have all of these tags.

        Returns:
            The runs.
        """
        of: dict[str, Any] = {"state": {"type": {"any_": list(states)}}}
        if tags:
            of["tags"] = {"all_": list(tags)}
        query: dict[str, Any] = {
            "flow_runs": of,
            "sort": "EXPECTED_START_TIME_DESC",
            "limit": _PAGE,
        }
        if deployment:
            flow, _, name = deployment.partition("/")
            query["flows"] = {"name": {"any_": [flow]}}
            query["deployments"] = {"name": {"any_": [name]}}
        return [self._run(each) for each in self._post("/flow_runs/filter", query)]

    def artifacts(self, run_id: str) -> list[Artifact]:
        """What a run has published, the newest first."""
        query = {
            "artifacts": {"flow_run_id": {"any_": [run_id]}},
            "sort": "CREATED_DESC",
            "limit": _PAGE,
        }
        found = self._post("/artifacts/filter", query)
        return [Artifact(each["key"] or "", each["type"], each["data"]) for each in found]

    def force_state(self, run_id: str, state: State) -> None:
        """Put a run into a state, whatever it is in."""
        body = {"state": asdict(state), "force": True}
        self._post(f"/flow_runs/{run_id}/set_state", body)

    def deployments(self, flow: str | None = None) -> set[str]:
        """The names of all deployments, or of those of one flow, as `flow/deployment`."""
        of = {"flows": {"name": {"any_": [flow]}}} if flow else {}
        found = self._post("/deployments/filter", {**of, "limit": _PAGE})
        return {f"{self._flow_name(each['flow_id'])}/{each['name']}" for each in found}

    def blocks(self) -> set[str]:
        """The names of all block documents."""
        query = {"include_secrets": False, "limit": _PAGE}
        return {each["name"] for each in self._post("/block_documents/filter", query)}

    def variable(self, name: str) -> Any:
        """The value of a variable; `None` if there is none of that name."""
        response = self._request("GET", f"/variables/name/{name}", missing=True)
        return response["value"] if response else None

    def set_variable(self, name: str, value: Any) -> None:
        """Set a variable, whether or not there is one of that name."""
        body = {"name": name, "value": value}
        if self.variable(name) is None:
            self._post("/variables/", body)
        else:
            self._request("PATCH", f"/variables/name/{name}", body)

    def pool(self, name: str) -> WorkPool:
        """A work pool, and who would execute its runs."""
        found = self._get(f"/work_pools/{quote(name)}")
        workers = self._post(f"/work_pools/{quote(name)}/workers/filter", {})
        return WorkPool(
            name,
            paused=found["is_paused"],
            needs_worker=not found["type"].endswith((":push", ":managed")),
            online=tuple(each["name"] for each in workers if each["status"] == "ONLINE"),
        )

    def worker_seen(self, pool: str) -> datetime | None:
        """When a worker of a work pool was last heard of."""
        found = self._post(f"/work_pools/{pool}/workers/filter", {})
        times = [datetime.fromisoformat(each["last_heartbeat_time"]) for each in found]
        return max(times, default=None)

    def _run(self, found: dict[str, Any]) -> FlowRun:
        state = found.get("state") or {}
        return FlowRun(
            id=found["id"],
            name=found["name"],
            flow=self._flow_name(found["flow_id"]),
            state=state.get("type", "PENDING"),
            label=state.get("name", "Pending"),
            message=state.get("message") or "",
            seconds=found.get("estimated_run_time") or found.get("total_run_time") or 0.0,
            ended=datetime.fromisoformat(found["end_time"]) if found.get("end_time") else None,
        )

    def _get(self, path: str) -> Any:
        return self._request("GET", path)

    def _post(self, path: str, body: Mapping[str, Any]) -> Any:
        return self._request("POST", path, body)

    def _request(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        missing: bool = False,
    ) -> Any:
        try:
            response = self._http.request(method, path, json=body)
        except httpx.HTTPError as error:
            raise TransientError(
                f"the Prefect server at {self.url} does not answer: {error}",
                state="runs that were started go on",
                next_step="make status"
                if self._local
                else "check PREFECT_API_URL, and that the server runs and can be reached from here",
            ) from error
        if _is_no_api(response):
            raise ConfigurationError(
                f"what answers at {self.url} is not the API of a Prefect server",
                state="nothing was started by this request",
                next_step="set PREFECT_API_URL to the API URL, which ends in /api"
                " (`prefect config view` shows it)",
            )
        if missing and response.status_code == 404:
            return None
        if response.is_error:
            raise self._refused(f"{method} {path}", response)
        return response.json() if response.content else None

    def _refused(self, request: str, response: httpx.Response) -> SlipwayError:
        """The error to raise for an answer that is one."""
        code = response.status_code
        if code in {401, 403}:
            return ConfigurationError(
                f"the Prefect server at {self.url} refuses the key ({code})",
                state="nothing was started by this request",
                next_step="set PREFECT_API_KEY to an API key of Prefect Cloud that may use this"
                " workspace, or to the user:password of your own server",
            )
        kind = TransientError if code >= 500 or code == 429 else TerminalError
        return kind(
            f"{request}: the Prefect server answers {code}: {response.text[:500]}",
            state="nothing was started by this request",
            next_step=f"open {self.ui()}",
        )


def _is_no_api(response: httpx.Response) -> bool:
    """Whether a page answered, or a server that does not know the route at all."""
    if response.status_code == 404:
        return response.text == '{"detail":"Not Found"}'  # of an object, it says which is not found
    if response.is_redirect:  # to a login page, or from http to https
        return True
    is_json = response.headers.get("content-type", "").startswith("application/json")
    return response.is_success and bool(response.content) and not is_json


def _is_url(text: str) -> bool:
    try:
        httpx.URL(text)
    except httpx.InvalidURL:
        return False
    return re.fullmatch(r"https?://[^\s/]+(/\S*)?", text) is not None


def _authorization(*, key: str, user: str) -> dict[str, str]:
    user = user or (key if ":" in key else "")
    if user:
        return {"Authorization": f"Basic {b64encode(user.encode()).decode()}"}
    return {"Authorization": f"Bearer {key}"} if key else {}


def _ui_of(url: str) -> str:
    """Where the UI is that goes with an API."""
    if cloud := _CLOUD.fullmatch(url):
        domain, account, workspace = cloud.groups()
        return f"https://app{domain}/account/{account}/workspace/{workspace}"
    return url.removesuffix("/api")
