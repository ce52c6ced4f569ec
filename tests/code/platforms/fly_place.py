"""The place to release to that stands in for Fly.io."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from tasks.images.reference import Reference, parse_reference
from tasks.images.registry import Login, Repository
from tasks.platforms.flyio.settings import FlyioEnvironment
from tests.certificates import self_signed
from tests.code.platforms.places import RemotePlace
from tests.containers import run_registry
from tests.stand_ins.faults import Faults, RestFaults
from tests.stand_ins.flyio import Fly, FlyMachine
from tests.stand_ins.front import Front, run_front
from tests.stand_ins.machines import Machines
from tests.stand_ins.serve import serving

APP = "wine-of-tests"
TOKEN = "fm2_no-secret"
BLOCK = "slipway-fly-token"
# `htpasswd -nbB x fm2_no-secret`
_PASSWORDS = "x:$2b$05$abcdefghijklmnopqrstuu4f8KuyBxOyFcAlVwi9jYtIVSN018/RS\n"


class FlyioPlace(RemotePlace):
    """The stand-in, its registry and its proxy."""

    necessary_calls = (
        f"POST /v1/apps/{APP}/machines",
        f"POST /v1/apps/{APP}/machines/*/lease",
        f"POST /v1/apps/{APP}/machines/*/uncordon",
    )
    wrong_credentials = (
        {"token_block": "slipway-wrong-token"},
        "refuses the token in block secret/slipway-wrong-token",
    )

    def __init__(self, environment: FlyioEnvironment, fly: Fly, faults: Faults) -> None:
        super().__init__(environment, faults)
        self.fly = fly
        login = Login("x", SecretStr(TOKEN))
        self.repository = Repository(parse_reference(environment.repository), login)

    def machines(self) -> list[FlyMachine]:
        """List all machines of the app."""
        app = self.fly.apps.get(APP)
        return list(app.machines.values()) if app else []

    def _servers(self) -> list[str]:
        return sorted(machine.name for machine in self.machines() if machine.state == "started")

    def _snapshot(self) -> dict[str, Any]:
        digests = {digest for item in self.machines()
                for digest in item.config["metadata"]["slipway_images"].split(",")}  # fmt: skip
        return {
            "apps": {item.name: item.addresses for item in self.fly.apps.values()},
            "servers": self._servers(),
            "machines": sorted(
                (item.name, item.state, item.cordoned, item.config["image"])
                for item in self.machines()
            ),
            "kept": sorted(digests),
            "images": sorted(digests),
            "tags": self.repository.tags(),
        }

    def _break(self) -> None:
        (machine,) = self.machines()
        self.fly.give_up(machine)


@contextlib.contextmanager
def running_fly(
    folder: Path, engine: str, registry: str, registry_folder: Path
) -> Iterator[FlyioPlace]:
    """Run the stand-in of Fly.io; its registry asks for TLS and a password."""
    with ExitStack() as opened:
        patch = opened.enter_context(pytest.MonkeyPatch.context())
        host = opened.enter_context(_guarded_registry(folder, registry_folder, patch))
        machines = Machines(engine, f"flyio-{registry}")
        opened.callback(machines.close)
        front: Front = opened.enter_context(run_front(folder))
        fly = Fly(machines, front, TOKEN, lambda image: image.replace(host, registry))
        opened.callback(fly.close)
        faults = RestFaults(fly.asgi)
        api = opened.enter_context(serving(faults))
        secrets = {BLOCK: f"FlyV1 {TOKEN}", "slipway-wrong-token": "FlyV1 fm2_wrong"}

        async def read_secret(block: str) -> Any:  # there is no Prefect server
            return secrets.get(block)

        patch.setattr("tasks.platforms.base.rest.read_secret", read_secret)
        patch.setattr("tasks.platforms.flyio.target.REGISTRY", host)
        patch.setattr("tasks.platforms.flyio.app._POLL_SECONDS", 0.2)  # nobody counts our requests
        environment = FlyioEnvironment(
            name="flyio",
            target="flyio",
            app=APP,
            organization="tests",
            region="ams",
            url=front.url,
            api=f"{api}/v1",
            repository=f"{host}/{APP}",
            base=f"{host}/python:{{python}}-slim",
            proxy_seconds=0.3,
            ready_seconds=240,
            soak_seconds=0.3,
            keep=2,
        )
        yield FlyioPlace(environment, fly, faults)


@contextlib.contextmanager
def _guarded_registry(
    folder: Path, registry_folder: Path, patch: pytest.MonkeyPatch
) -> Iterator[str]:
    (folder / "data").symlink_to(registry_folder / "data")
    (folder / "passwords").write_text(_PASSWORDS)
    auth = {"htpasswd": {"realm": "fly", "path": str(folder / "passwords")}}
    tls = self_signed(folder)
    with run_registry(folder, auth=auth, tls=tls) as host:
        # Registries on this host are spoken to in clear, but for this one.
        usual = Reference.on_loopback.fget
        assert usual
        patch.setattr(
            Reference, "on_loopback", property(lambda self: self.host != host and usual(self))
        )
        patch.setenv("REQUESTS_CA_BUNDLE", tls["certificate"])
        yield host
