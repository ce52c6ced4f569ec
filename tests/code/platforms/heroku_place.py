"""Heroku, as a place to release to."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from tasks.images.reference import parse_reference
from tasks.images.registry import Repository
from tasks.images.retention import tags_by_image
from tasks.platforms.heroku.settings import HerokuEnvironment
from tests.code.platforms.places import RemotePlace
from tests.stand_ins.faults import Faults, RestFaults
from tests.stand_ins.front import run_front
from tests.stand_ins.heroku import Heroku, error_body
from tests.stand_ins.machines import Machines
from tests.stand_ins.serve import serving

APP = "wine-of-tests"
_TOKENS = {"slipway-heroku-token": "HRKU-the-right-one", "wrong": "HRKU-of-somebody-else"}


async def known_token(block: str) -> SecretStr:
    """Return the content of a block, without a Prefect server."""
    return SecretStr(_TOKENS[block])


class HerokuPlace(RemotePlace):
    """A stand-in of Heroku, and a registry."""

    necessary_calls = (f"PATCH /apps/{APP}/formation",)
    wrong_credentials = ({"token_block": "wrong"}, "refuses the token in block secret/wrong")
    environment: HerokuEnvironment

    def __init__(self, environment: HerokuEnvironment, heroku: Heroku, faults: Faults) -> None:
        super().__init__(environment, faults)
        self.heroku = heroku
        self.repository = Repository(parse_reference(environment.repository))

    @property
    def url(self) -> str:
        """The public URL, which the platform says."""
        return self.heroku.url

    @property
    def app(self) -> Any:
        """The app, as Heroku has it."""
        return self.heroku.apps.get(APP)

    def _servers(self) -> list[str]:
        self.heroku.wait_until_idle()
        return self.heroku.machines.running()

    def _snapshot(self) -> dict[str, Any]:
        self.heroku.wait_until_idle()
        app = self.app
        runs = app is not None and app.current.image is not None
        return {
            "servers": [f"{item.name} {item.state}" for item in app.dynos] if runs else [],
            "image": app.current.image if runs else "",
            "scale": (app.quantity, app.size, app.preboot) if runs else (),
            "kept": {item.digest: tags for item, tags in tags_by_image(self.repository).items()},
        }

    def _break(self) -> None:
        (dyno,) = self.app.dynos
        self.heroku.machines.kill(dyno.machine)


@contextlib.contextmanager
def running_heroku(folder: Path, engine: str, registry: str) -> Iterator[HerokuPlace]:
    """Run the stand-in and its edge; a registry of the tests plays Heroku's."""
    with contextlib.ExitStack() as opened:
        machines = Machines(engine, f"heroku-{registry}")
        opened.callback(machines.close)
        front = opened.enter_context(run_front(folder))
        heroku = Heroku(machines, front, registry, _TOKENS["slipway-heroku-token"])
        opened.callback(heroku.close)
        faults = RestFaults(heroku.app, error=error_body)
        environment = HerokuEnvironment(
            name="heroku",
            target="heroku",
            app=APP,
            api=opened.enter_context(serving(faults)),
            repository=f"{registry}/{APP}/web",
            base=f"{registry}/python:{{python}}-slim",
            size="standard-1x",
            preboot=True,
            ready_seconds=180,
            soak_seconds=0.3,
            keep=2,
        )
        patch = opened.enter_context(pytest.MonkeyPatch.context())
        patch.setattr("tasks.platforms.heroku.app.load_token", known_token)
        patch.setattr("tasks.platforms.heroku.app.POLL_SECONDS", 0.1)
        yield HerokuPlace(environment, heroku, faults)
