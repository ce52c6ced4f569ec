"""A stand-in of Heroku: the Platform API, and dynos that really run what was released.

It keeps apps, releases, formation and dynos as the real one does: a release is pending until its
release phase has ended, then the dynos are replaced, the old ones first unless the app has preboot.
Requests are held against Heroku's published description where that is at hand.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from tasks.core.tls import ssl_context
from tasks.images.reference import parse_reference
from tasks.images.registry import Repository
from tasks.images.retention import tags_by_image
from tasks.images.variant import image_id
from tests.stand_ins.front import Front
from tests.stand_ins.heroku_schema import find_schema
from tests.stand_ins.machines import Machine, Machines

_PORT = 43_210
_PHASE_SECONDS = 0.1
_BOOT_SECONDS = 150.0  # Heroku gives 60; a busy machine of tests needs more
_ACCEPT = "application/vnd.heroku+json; version=3"
_IMAGES = f"{_ACCEPT}.docker-releases"
_NAMES = {
    400: "bad_request", 401: "unauthorized", 404: "not_found", 406: "not_acceptable",
    409: "conflict", 422: "invalid_params", 429: "rate_limit", 500: "internal_server_error",
}  # fmt: skip


class Refused(Exception):
    """An answer with an error."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message


def error_body(status: int, message: str = "a fault on purpose") -> dict[str, str]:
    """Make an error in Heroku's words."""
    return {"id": _NAMES.get(status, "error"), "message": message}


@dataclass
class Release:
    """A release: the image that its web dynos run, None for nothing, and its config vars."""

    version: int
    description: str
    image: str | None
    variables: dict[str, str] = field(default_factory=dict)
    status: str = "pending"
    identifier: str = field(default_factory=lambda: str(uuid4()))


@dataclass
class Dyno:
    """A dyno: a container, and the release that it runs."""

    name: str
    machine: Machine
    release: Release
    state: str = "starting"


@dataclass
class App:
    """An app."""

    name: str
    owner: str
    region: str
    stack: str
    releases: list[Release] = field(default_factory=list)
    dynos: list[Dyno] = field(default_factory=list)
    leaving: list[Dyno] = field(default_factory=list)
    quantity: int = 1
    size: str = "Basic"
    preboot: bool = False
    release_phase_fails: bool = False
    variables: dict[str, str] = field(default_factory=dict)

    @property
    def current(self) -> Release:
        """The release that is deployed."""
        return next(release for release in reversed(self.releases) if release.status == "succeeded")

    def add(self, description: str, image: str | None) -> Release:
        """Add a release, which is pending."""
        release = Release(len(self.releases) + 1, description, image, dict(self.variables))
        self.releases.append(release)
        return release


class Heroku:
    """The stand-in.

    Args:
        machines: What runs dynos.
        front: Its router; there is one app with traffic.
        registry: `host:port` in the place of registry.heroku.com.
        token: The API token that it knows.
    """

    def __init__(self, machines: Machines, front: Front, registry: str, token: str) -> None:
        self.machines = machines
        self.apps: dict[str, App] = {}
        self._front = front
        self._registry = registry
        self._token = token
        self.schema = find_schema()
        self.complaints: list[str] = []
        self._work = ThreadPoolExecutor(1)  # one change after the other, as dynos are replaced
        self._under_way: list[Future[None]] = []
        self._lock = threading.Lock()
        at = "/apps/{app}"
        self.app = Starlette(
            routes=[
                self._route("GET", "/account", self._account),
                self._route("GET", "/account/rate-limits", self._rate_limits),
                self._route("GET", "/regions/{region}", self._region),
                self._route("GET", "/teams/{team}", self._team),
                self._route("POST", "/apps", self._create),
                self._route("POST", "/teams/apps", self._create),
                self._route("GET", at, self._describe),
                self._route("GET", f"{at}/features/preboot", self._feature),
                self._route("PATCH", f"{at}/features/preboot", self._set_feature),
                self._route("GET", f"{at}/config-vars", self._variables),
                self._route("PATCH", f"{at}/config-vars", self._set_variables),
                self._route("GET", f"{at}/formation", self._formation),
                self._route("PATCH", f"{at}/formation", self._update),
                self._route("PATCH", f"{at}/formation/web", self._update_web),
                self._route("GET", f"{at}/releases", self._releases),
                self._route("POST", f"{at}/releases", self._roll_back),
                self._route("GET", f"{at}/dynos", self._dynos),
                self._route("POST", f"{at}/log-sessions", self._log_session),
                Route("/sessions/{app}", self._log),
            ]
        )

    @property
    def url(self) -> str:
        """The public URL."""
        return self._front.url

    def wait_until_idle(self) -> None:
        """Wait until nothing is under way, and complain of what went wrong with it."""
        while self._under_way:
            self._under_way.pop(0).result()

    def close(self) -> None:
        """Stop working."""
        self.wait_until_idle()
        self._work.shutdown()

    # What every request goes through

    def _route(self, method: str, path: str, answer: Callable[..., Any]) -> Route:
        async def endpoint(request: Request) -> Response:
            body = json.loads(await request.body() or b"null")
            headers = {"Request-Id": str(uuid4()), "RateLimit-Remaining": "4499"}
            try:
                self._admit(request, method, body)
                content = answer(request, body)
            except Refused as refused:
                return JSONResponse(
                    error_body(refused.status, refused.message), refused.status, headers
                )
            status = 201 if method == "POST" else 206 if "Range" in request.headers else 200
            return JSONResponse(content, status, headers)

        return Route(path, endpoint, methods=[method])

    def _admit(self, request: Request, method: str, body: Any) -> None:
        if request.headers.get("Authorization") != f"Bearer {self._token}":
            raise Refused(401, "Invalid credentials provided.")
        if not request.headers.get("Accept", "").startswith(_ACCEPT):
            raise Refused(406, "Accept header is incompatible with API version 3.")
        if self.schema and body is not None:
            self.complaints += self.schema.complaints(method, request.url.path, body)

    def _app_of(self, request: Request) -> App:
        name = request.path_params["app"]
        if name not in self.apps:
            raise Refused(404, "Couldn't find that app.")
        return self.apps[name]

    # Accounts and apps

    def _account(self, _: Request, __: Any) -> Any:
        return {"email": "somebody@example.com", "id": str(uuid4())}

    def _rate_limits(self, _: Request, __: Any) -> Any:
        return {"remaining": 4499}

    def _region(self, request: Request, _: Any) -> Any:
        name = request.path_params["region"]
        if name not in {"us", "eu"}:
            raise Refused(404, "Couldn't find that region.")
        return {"name": name}

    def _team(self, request: Request, _: Any) -> Any:
        name = request.path_params["team"]
        if name != "models":
            raise Refused(404, "Couldn't find that team.")
        return {"name": name}

    def _create(self, _: Request, body: Any) -> Any:
        if body["name"] in self.apps:
            raise Refused(422, f"Name {body['name']} is already taken")
        owner = body.get("team", "somebody@example.com")
        app = App(body["name"], owner, body["region"], body["stack"])
        for description in ("Initial release", "Enable Logplex"):
            app.add(description, None).status = "succeeded"
        self.apps[app.name] = app
        return self._describe_app(app)

    def _describe(self, request: Request, _: Any) -> Any:
        return self._describe_app(self._app_of(request))

    def _describe_app(self, app: App) -> Any:
        stack = {"name": app.stack}
        return {"name": app.name, "stack": stack, "web_url": f"{self._front.url}/"}

    def _feature(self, request: Request, _: Any) -> Any:
        return {"name": "preboot", "enabled": self._app_of(request).preboot}

    def _set_feature(self, request: Request, body: Any) -> Any:
        app = self._app_of(request)
        if body["enabled"] and app.size.lower() in {"eco", "basic"}:
            raise Refused(422, "Preboot is available with standard and performance dynos only.")
        app.preboot = body["enabled"]
        return self._feature(request, None)

    def _variables(self, request: Request, _: Any) -> Any:
        return self._app_of(request).variables

    def _set_variables(self, request: Request, body: Any) -> Any:
        app = self._app_of(request)
        with self._lock:
            self._refuse_during_release(app)
            app.variables |= body
            self._begin(app, f"Set {', '.join(body)} config vars", app.current.image)
        return app.variables

    # Formation and releases

    def _formation(self, request: Request, _: Any) -> Any:
        app = self._app_of(request)
        image = app.current.image
        if image is None:
            return []
        web = {"type": "web", "quantity": app.quantity, "dyno_size": {"name": app.size}}
        if request.headers["Accept"] == _IMAGES:
            web["docker_image"] = {"id": str(uuid4())}  # Heroku's own name of it
        return [web]

    def _update(self, request: Request, body: Any) -> Any:
        app = self._app_of(request)
        with self._lock:
            (update,) = body["updates"]
            image = update.get("docker_image")
            if image and request.headers["Accept"] != _IMAGES:
                raise Refused(422, "Unknown parameter: docker_image")
            if image and app.stack != "container":
                raise Refused(422, "Images can be released to apps of the container stack only.")
            if image:
                self._check_image(app, image)
            before, app.quantity = app.quantity, update.get("quantity", app.quantity)
            app.size = update.get("dyno_size", {}).get("name", app.size)
            # Of the image that runs already, Heroku warns, and makes no release.
            newest = next(
                release for release in reversed(app.releases) if release.status != "failed"
            )
            if image and image != newest.image:
                digits = image.removeprefix("sha256:")[:12]
                self._begin(app, f"Deployed web ({digits})", image)
            elif before != app.quantity:
                self._under_way.append(self._work.submit(self._scale, app))
        return self._formation(request, None)

    def _update_web(self, request: Request, body: Any) -> Any:
        app = self._app_of(request)
        if app.current.image is None:
            raise Refused(404, "Couldn't find that process type.")
        assert body == {"docker_image": None}
        with self._lock:
            self._begin(app, "Removed web", None)
        return {}

    def _releases(self, request: Request, _: Any) -> Any:
        app = self._app_of(request)
        order = request.headers.get("Range", "")
        releases = sorted(
            app.releases, key=lambda release: release.version, reverse="order=desc" in order
        )
        return [_release(app, release) for release in releases]

    def _roll_back(self, request: Request, body: Any) -> Any:
        app = self._app_of(request)
        with self._lock:
            for release in app.releases:
                if release.identifier == body["release"] and release.status == "succeeded":
                    self._refuse_during_release(app)
                    app.variables = dict(release.variables)
                    back = self._begin(app, f"Rollback to v{release.version}", release.image)
                    return _release(app, back)
        raise Refused(404, "Couldn't find that release.")

    def _check_image(self, app: App, image: str) -> None:
        self._pushed(app, image)
        config = json.loads(self._repository(app).read(image))
        if not config["config"].get("Cmd"):
            raise Refused(422, "The image has no CMD.")

    def _pushed(self, app: App, image: str) -> str:
        """Return the digest of an image in the registry, by the image's id."""
        for manifest in tags_by_image(self._repository(app)):
            if image_id(manifest) == image:
                return manifest.digest
        raise Refused(404, f"Couldn't find image {image}.")

    def _repository(self, app: App) -> Repository:
        return Repository(parse_reference(f"{self._registry}/{app.name}/web"))

    # Dynos

    def _dynos(self, request: Request, _: Any) -> Any:
        app = self._app_of(request)
        with self._lock:
            for dyno in app.dynos:
                if dyno.state == "up" and not self.machines.runs(dyno.machine):
                    dyno.state = "crashed"
        return [
            {
                "name": dyno.name,
                "type": "web",
                "state": dyno.state,
                "release": {"id": dyno.release.identifier, "version": dyno.release.version},
            }
            for dyno in app.dynos
        ]

    def _log_session(self, request: Request, _: Any) -> Any:
        return {"logplex_url": f"{request.base_url}sessions/{self._app_of(request).name}"}

    def _log(self, request: Request) -> Response:
        lines = [
            f"app[{dyno.name}]: {line}"
            for dyno in self._app_of(request).dynos
            for line in self.machines.logs(dyno.machine).splitlines()
        ]
        return PlainTextResponse("\n".join(lines))

    def _begin(self, app: App, description: str, image: str | None) -> Release:
        """Make a release, and carry it out after the answer."""
        self._refuse_during_release(app)
        release = app.add(description, image)
        self._under_way.append(self._work.submit(self._carry_out, app, release))
        return release

    def _refuse_during_release(self, app: App) -> None:
        if app.releases[-1].status == "pending":
            raise Refused(409, "A release is in progress; wait for it to finish.")

    def _carry_out(self, app: App, release: Release) -> None:
        time.sleep(_PHASE_SECONDS)
        if app.release_phase_fails:
            release.status = "failed"
            return
        release.status = "succeeded"
        app.leaving, app.dynos = [*app.leaving, *app.dynos], []
        if not app.preboot:
            self._replace(app)
        if release.image:
            self._start(app, release)
        # With preboot, old dynos have the traffic for minutes, in which others may crash.
        if not app.preboot or all(dyno.state == "up" for dyno in app.dynos):
            self._replace(app)

    def _scale(self, app: App) -> None:
        app.leaving += app.dynos[app.quantity :]
        app.dynos = app.dynos[: app.quantity]
        if app.current.image:
            self._start(app, app.current)
        self._replace(app)

    def _start(self, app: App, release: Release) -> None:
        """Start as many dynos as are missing."""
        digest = self._pushed(app, str(release.image))
        image = f"{self._registry}/{app.name}/web@{digest}"
        for number in range(len(app.dynos) + 1, app.quantity + 1):
            name = f"web.{number}"
            variables = {**release.variables, "PORT": str(_PORT), "DYNO": name}
            # A user of Heroku's own choice.
            machine = self.machines.start(image, variables, port=_PORT, user="31337:31337")
            app.dynos.append(Dyno(name, machine, release))
        for dyno in app.dynos:
            self._wait_for(dyno)

    def _replace(self, app: App) -> None:
        """Route to its dynos alone, and stop those that are leaving."""
        self._front.lead_to([dyno.machine.url for dyno in app.dynos if dyno.state == "up"])
        for dyno in app.leaving:
            self.machines.stop(dyno.machine)
            self.machines.remove(dyno.machine)
        app.leaving = []

    def _wait_for(self, dyno: Dyno) -> None:
        """Wait until a dyno listens, whatever it answers."""
        deadline = time.monotonic() + _BOOT_SECONDS
        while dyno.state == "starting":
            try:
                httpx.get(
                    f"{dyno.machine.url}/healthz", timeout=5, trust_env=False, verify=ssl_context()
                )
                dyno.state = "up"
            except httpx.HTTPError:
                if time.monotonic() > deadline or not self.machines.runs(dyno.machine):
                    dyno.state = "crashed"
                time.sleep(0.05)


def _release(app: App, release: Release) -> dict[str, Any]:
    return {
        "id": release.identifier,
        "version": release.version,
        "description": release.description,
        "status": release.status,
        "current": release is app.current,
        "slug": None,
    }
