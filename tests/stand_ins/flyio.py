"""A stand-in of Fly.io: its Machines API, behind which released images run, and its proxy."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.stand_ins.front import Front
from tests.stand_ins.machines import Machine, Machines

# In Fly's documentation and client, and not in the description of 2024.
NEWER = (
    "GET /apps/{app}/ip_assignments",
    "POST /apps/{app}/ip_assignments",
    "DELETE /apps/{app_name}/machines/{machine_id}?force",
)
_NONCE = "fly-machine-lease-nonce"
_REMOVABLE = {"created", "stopped", "suspended", "failed"}


class Refusal(Exception):
    """An answer that is an error, in Fly's words."""

    def __init__(self, code: int, error: str) -> None:
        super().__init__(error)
        self.code, self.error = code, error


@dataclass
class Lease:
    """The exclusive right to change a machine, until it expires."""

    nonce: str
    description: str
    expires: float


@dataclass
class FlyMachine:
    """A machine, with the container that it is."""

    identifier: str
    name: str
    region: str
    config: Mapping[str, Any]
    cordoned: bool
    state: str = "created"
    events: list[dict[str, Any]] = field(default_factory=list)
    container: Machine | None = None
    lease: Lease | None = None
    restarts: int = 0

    def happened(self, kind: str, state: str, **request: Any) -> None:
        """Pass into another state."""
        self.state = state
        moment = int(time.time() * 1000)
        event = {"type": kind, "status": state, "source": "flyd", "timestamp": moment}
        self.events.insert(0, {**event, "request": request} if request else event)


@dataclass
class App:
    """An app."""

    name: str
    organization: str
    addresses: list[str] = field(default_factory=list)
    machines: dict[str, FlyMachine] = field(default_factory=dict)


class Fly:
    """One organization of Fly.io, seen through its API.

    Args:
        machines: Where images run.
        front: Its proxy, with one public URL.
        token: Who may ask.
        pulled: The name under which the engine finds an image.
    """

    def __init__(
        self, machines: Machines, front: Front, token: str, pulled: Callable[[str], str]
    ) -> None:
        self.apps: dict[str, App] = {}
        self.requests: list[tuple[str, str, tuple[str, ...], Any]] = []
        self._machines = machines
        self._front = front
        self._tokens = {f"Bearer {token}", f"FlyV1 {token}"}
        self._pulled = pulled
        self._lock = threading.RLock()
        self._threads: list[threading.Thread] = []
        self._numbers = itertools.count(1)
        machine = "/v1/apps/{app}/machines/{machine}"
        self.asgi = Starlette(
            routes=[
                self._route("GET", "/v1/apps", self._list_apps),
                self._route("POST", "/v1/apps", self._create_app),
                self._route("GET", "/v1/apps/{app}", self._show_app),
                self._route("DELETE", "/v1/apps/{app}", self._delete_app),
                self._route("GET", "/v1/apps/{app}/ip_assignments", self._list_addresses),
                self._route("POST", "/v1/apps/{app}/ip_assignments", self._assign_address),
                self._route("GET", "/v1/apps/{app}/machines", self._list_machines),
                self._route("POST", "/v1/apps/{app}/machines", self._create_machine),
                self._route("GET", machine, self._show_machine),
                self._route("DELETE", machine, self._destroy),
                self._route("POST", f"{machine}/stop", self._stop),
                self._route("POST", f"{machine}/cordon", self._cordon),
                self._route("POST", f"{machine}/uncordon", self._uncordon),
                self._route("GET", f"{machine}/lease", self._show_lease),
                self._route("POST", f"{machine}/lease", self._create_lease),
                self._route("DELETE", f"{machine}/lease", self._release_lease),
            ]
        )

    def give_up(self, machine: FlyMachine) -> None:
        """Stop a machine that has ended on its own more often than its restart policy allows."""
        with self._lock:
            if machine.container:
                self._machines.kill(machine.container)
            machine.restarts = 1_000
            self._look_at(machine)
            self._lead()

    def lease(self, machine: FlyMachine, seconds: float) -> None:
        """Take a lease in another holder's name."""
        with self._lock:
            machine.lease = Lease(uuid4().hex[:12], "flyctl", time.time() + seconds)

    def close(self) -> None:
        """Wait for what is under way."""
        for thread in self._threads:
            thread.join()

    def _route(self, method: str, path: str, handle: Callable[..., Any]) -> Route:
        async def body_of(request: Request) -> Any:
            return await request.json() if await request.body() else None

        async def endpoint(request: Request) -> Response:
            body = await body_of(request)
            where = request.url.path.removeprefix("/v1")
            self.requests.append((method, where, tuple(request.query_params), body))
            if request.headers.get("authorization") not in self._tokens:
                return JSONResponse({"error": "unauthorized"}, 401)
            try:
                answer = await run_in_threadpool(self._handle, handle, request, body)
            except Refusal as refusal:
                return JSONResponse(
                    {"error": refusal.error},
                    refusal.code,
                    {"fly-request-id": f"01STANDIN-{next(self._numbers)}"},
                )
            code, content = answer if isinstance(answer, tuple) else (200, answer)
            return Response(status_code=code) if content is None else JSONResponse(content, code)

        return Route(path, endpoint, methods=[method])

    def _handle(self, handle: Callable[..., Any], request: Request, body: Any) -> Any:
        with self._lock:
            return handle(request, body)

    # Apps

    def _list_apps(self, request: Request, _: Any) -> Any:
        ours = [app for app in self.apps.values()
                if app.organization == request.query_params["org_slug"]]  # fmt: skip
        apps = [{"id": app.name, "name": app.name, "machine_count": len(app.machines)}
                for app in ours]  # fmt: skip
        return {"total_apps": len(apps), "apps": apps}

    def _create_app(self, _: Request, body: Mapping[str, Any]) -> Any:
        name = body["app_name"]
        if name in self.apps:
            raise Refusal(422, "Validation failed: Name has already been taken")
        self.apps[name] = App(name, body["org_slug"])
        return 201, {"id": name, "created_at": int(time.time() * 1000)}

    def _show_app(self, request: Request, _: Any) -> Any:
        app = self._app(request)
        organization = {"name": app.organization, "slug": app.organization}
        return {"id": app.name, "name": app.name, "status": "deployed",
                "organization": organization}  # fmt: skip

    def _delete_app(self, request: Request, _: Any) -> Any:
        app = self._app(request)
        for machine in app.machines.values():
            self._remove(machine)
        del self.apps[app.name]
        self._lead()
        return 202, None

    def _list_addresses(self, request: Request, _: Any) -> Any:
        return {
            "ips": [self._describe_address(address) for address in self._app(request).addresses]
        }

    def _assign_address(self, request: Request, body: Mapping[str, Any]) -> Any:
        app, number = self._app(request), next(self._numbers)
        address = {"shared_v4": f"66.241.124.{number % 256}", "v6": f"2a09:8280:1::{number:x}"}
        app.addresses.append(address[body["type"]])
        return self._describe_address(app.addresses[-1])

    def _describe_address(self, address: str) -> dict[str, Any]:
        return {"ip": address, "region": "global", "shared": "." in address, "service_name": ""}

    # Machines

    def _list_machines(self, request: Request, _: Any) -> Any:
        return [self._describe(machine) for machine in self._app(request).machines.values()]

    def _show_machine(self, request: Request, _: Any) -> Any:
        return self._describe(self._machine(request))

    def _create_machine(self, request: Request, body: Mapping[str, Any]) -> Any:
        app = self._app(request)
        for machine in app.machines.values():
            if machine.name == body["name"]:
                raise Refusal(
                    409,
                    f"already_exists: unique machine name violation, machine ID"
                    f' {machine.identifier} already exists with name "{machine.name}"',
                )
        if "@sha256:" not in body["config"]["image"]:
            raise Refusal(400, "an image of ours is named by its digest")
        machine = FlyMachine(
            uuid4().hex[:14],
            body["name"],
            body["region"],
            body["config"],
            cordoned=body.get("skip_service_registration", False),
        )
        machine.happened("launch", "created")
        app.machines[machine.identifier] = machine
        self._in_background(lambda: self._start(machine))
        return self._describe(machine)

    def _stop(self, request: Request, _: Any) -> Any:
        machine = self._machine(request, changed=True)
        if machine.state == "started":
            machine.happened("stop", "stopping")
            self._in_background(lambda: self._end(machine))
        return {"ok": True}

    def _destroy(self, request: Request, _: Any) -> Any:
        machine = self._machine(request, changed=True)
        if machine.state not in _REMOVABLE and request.query_params.get("force") != "true":
            raise Refusal(
                412,
                "failed_precondition: unable to destroy machine, not currently stopped,"
                " suspended, failed or created",
            )
        self._remove(machine)
        del self._app(request).machines[machine.identifier]
        self._lead()
        return {"ok": True}

    def _cordon(self, request: Request, _: Any) -> Any:
        self._machine(request, changed=True).cordoned = True
        self._lead()
        return {"ok": True}

    def _uncordon(self, request: Request, _: Any) -> Any:
        self._machine(request, changed=True).cordoned = False
        self._lead()
        return {"ok": True}

    # Leases

    def _show_lease(self, request: Request, _: Any) -> Any:
        machine = self._machine(request)
        if machine.lease is None:
            raise Refusal(404, "lease not found")
        return self._describe_lease(machine.lease)

    def _create_lease(self, request: Request, body: Mapping[str, Any]) -> Any:
        machine = self._machine(request, changed=True)
        expires = time.time() + body["ttl"]
        machine.lease = Lease(uuid4().hex[:12], body["description"], expires)
        return 201, self._describe_lease(machine.lease)

    def _release_lease(self, request: Request, _: Any) -> Any:
        self._machine(request, changed=True).lease = None
        return {"status": "success", "data": {"ok": True}}

    def _describe_lease(self, lease: Lease) -> dict[str, Any]:
        data = {"nonce": lease.nonce, "description": lease.description,
                "expires_at": int(lease.expires), "owner": "tests@tokens.fly.io"}  # fmt: skip
        return {"status": "success", "data": data}

    # What happens behind the API

    def _app(self, request: Request) -> App:
        app = self.apps.get(request.path_params["app"])
        if app is None:
            raise Refusal(404, "app not found")
        return app

    def _machine(self, request: Request, *, changed: bool = False) -> FlyMachine:
        machine = self._app(request).machines.get(request.path_params["machine"])
        if machine is None:
            raise Refusal(404, "machine not found")
        if machine.lease and machine.lease.expires < time.time():
            machine.lease = None
        if changed and machine.lease and machine.lease.nonce != request.headers.get(_NONCE):
            until = datetime.fromtimestamp(machine.lease.expires, UTC).isoformat()
            raise Refusal(
                409,
                f"machine ID {machine.identifier} lease currently held by"
                f" tests@tokens.fly.io, expires at {until}",
            )
        return machine

    def _describe(self, machine: FlyMachine) -> dict[str, Any]:
        self._look_at(machine)
        where, _, digest = machine.config["image"].partition("@")
        registry, _, repository = where.partition("/")
        return {
            "id": machine.identifier,
            "name": machine.name,
            "state": machine.state,
            "region": machine.region,
            "cordoned": machine.cordoned,
            "config": machine.config,
            "image_ref": {"registry": registry, "repository": repository, "digest": digest},
            "events": machine.events,
            "checks": self._checks(machine),
        }

    def _checks(self, machine: FlyMachine) -> list[dict[str, str]]:
        check = machine.config["checks"]["ready"]
        runs = machine.state == "started" and machine.container is not None
        passes = runs and machine.container.answers(check["path"])  # type: ignore[union-attr]
        status = {"status": "passing" if passes else "critical",
                  "output": "200 OK" if passes else "connection refused"}  # fmt: skip
        return [{"name": name, **status} for name in ("ready", "servicecheck-00-http-8080")]

    def _look_at(self, machine: FlyMachine) -> None:
        """Notice the end of a machine, and start it again as its policy says."""
        container = machine.container
        if machine.state != "started" or container is None or self._machines.runs(container):
            return
        machine.restarts += 1
        again = machine.restarts <= machine.config["restart"]["max_retries"]
        machine.happened(
            "exit",
            "stopped",
            exit_event={"exit_code": 1, "requested_stop": False, "oom_killed": False},
        )
        if again:
            self._machines.restart(container)
            machine.happened("start", "started")

    def _start(self, machine: FlyMachine) -> None:
        config = machine.config
        with self._lock:
            machine.happened("start", "starting")
        container = self._machines.start(
            self._pulled(config["image"]),
            config["env"],
            port=config["services"][0]["internal_port"],
            mem_limit=f"{config['guest']['memory_mb']}m",
        )
        with self._lock:
            machine.container = container
            if machine.state == "starting":
                machine.happened("start", "started")
                self._lead()
            else:  # it was removed meanwhile
                self._machines.remove(container)

    def _end(self, machine: FlyMachine) -> None:
        if machine.container:
            self._machines.stop(machine.container)
        with self._lock:
            if machine.state == "stopping":
                machine.happened("exit", "stopped", exit_event={"requested_stop": True})

    def _remove(self, machine: FlyMachine) -> None:
        machine.happened("destroy", "destroyed")
        if machine.container:
            self._machines.remove(machine.container)

    def _lead(self) -> None:
        served = [
            machine.container.url
            for app in self.apps.values()
            for machine in app.machines.values()
            if machine.container and machine.state == "started" and not machine.cordoned
        ]
        self._front.lead_to(served)

    def _in_background(self, work: Callable[[], None]) -> None:
        thread = threading.Thread(target=work)
        thread.start()
        self._threads.append(thread)
