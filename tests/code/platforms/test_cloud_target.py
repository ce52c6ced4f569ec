from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import pytest

from tasks.core.errors import TerminalError, TransientError
from tasks.package.package import Package
from tasks.platforms.base.cloud_target import CloudTarget
from tasks.platforms.base.image_target import StagedImage
from tasks.platforms.base.rest import load_token
from tasks.platforms.base.settings import CloudEnvironment
from tasks.platforms.base.target import Live, Released, Staged
from tasks.platforms.flyio import settings as flyio_settings
from tasks.platforms.flyio.settings import FlyioEnvironment
from tasks.platforms.flyio.target import FlyioTarget
from tasks.platforms.heroku import settings as heroku_settings
from tasks.platforms.heroku.settings import HerokuEnvironment
from tasks.platforms.heroku.target import HerokuTarget
from tasks.release import steps
from tests.containers import free_port

_STAGED: Any = None  # what is rolled back does not matter here


class _Refusing(CloudTarget[CloudEnvironment, Released[StagedImage]]):
    """A platform that takes no release; with `silent`, it does not say either what it has."""

    def __init__(self, *, silent: bool) -> None:
        repository = f"127.0.0.1:{free_port()}/wine"  # where no registry answers
        super().__init__(CloudEnvironment(name="test", target="none", repository=repository))
        self._silent = silent
        self.rollbacks_that_fail = 0
        self.rollbacks = 0

    @property
    def url(self) -> str:
        return "nowhere"

    async def check(self) -> Sequence[str]:
        return ()

    async def status(self) -> Live | None:
        return None

    async def release(self, staged: StagedImage, version: str) -> Released[StagedImage]:
        return Released(staged, version)

    async def verify(self, released: Released[StagedImage]) -> None: ...

    async def settle(self, released: Released[StagedImage]) -> None: ...

    async def tidy(self) -> None: ...

    async def remove(self) -> None: ...

    async def rollback(self, staged: StagedImage) -> None:
        self.rollbacks += 1
        if self.rollbacks <= self.rollbacks_that_fail:
            raise TransientError("the platform is down")
        await self._retire()

    async def _run_trial(self, staged: Staged, file: Path) -> None: ...

    async def _prepare(self) -> None:
        raise TerminalError("the token is read-only")

    async def _images_in_use(self) -> Collection[str]:
        if self._silent:
            raise TransientError("the platform does not answer")
        return ()


@pytest.fixture(params=[True, False], ids=["no platform", "no registry"])
def target(request: pytest.FixtureRequest) -> _Refusing:
    """Its images cannot be retired."""
    return _Refusing(silent=request.param)


async def test_failed_retention_does_not_hide_why_preflight_failed(
    target: _Refusing, paper: Package, tmp_path: Path
) -> None:
    with pytest.raises(TerminalError, match="the token is read-only"):
        await target.preflight(paper, tmp_path, "v1")


async def test_rollback_completes_although_old_images_stay(
    target: _Refusing, caplog: pytest.LogCaptureFixture
) -> None:
    assert await steps.roll_back(target, _STAGED)
    assert target.rollbacks == 1
    assert "old images stay in the registry" in caplog.text


@pytest.mark.parametrize(("failing", "completes"), [(2, True), (3, False)])
async def test_rollback_is_repeated_after_every_pause(
    monkeypatch: pytest.MonkeyPatch, failing: int, completes: bool
) -> None:
    monkeypatch.setattr(steps, "_ROLLBACK_PAUSES", (0.0, 0.0, 0.0))
    target = _Refusing(silent=True)
    target.rollbacks_that_fail = failing
    assert await steps.roll_back(target, _STAGED) == completes
    assert target.rollbacks == 3


def _on_fly(**settings: str) -> FlyioTarget:
    at = {"name": "fly", "target": "flyio", "app": "wine", "organization": "us", "region": "ams"}
    return FlyioTarget(FlyioEnvironment.model_validate(at | settings))


def _on_heroku(**settings: str) -> HerokuTarget:
    at = {"name": "heroku", "target": "heroku", "app": "wine"}
    return HerokuTarget(HerokuEnvironment.model_validate(at | settings))


@pytest.mark.parametrize(("platform", "user"), [(_on_fly, "x"), (_on_heroku, "_")])
async def test_token_goes_only_to_registry_of_its_platform(
    monkeypatch: pytest.MonkeyPatch, platform: Any, user: str
) -> None:
    async def read_secret(block: str) -> Any:  # there is no Prefect server
        return {"username": "us", "password": "p"} if block == "theirs" else "token"

    monkeypatch.setattr("tasks.platforms.base.rest.read_secret", read_secret)
    monkeypatch.setattr("tasks.images.login.read_secret", read_secret)
    # The stand-ins that other tests use have tokens and registries of their own.
    monkeypatch.setattr("tasks.platforms.heroku.app.load_token", load_token)
    monkeypatch.setattr("tasks.platforms.flyio.target.REGISTRY", flyio_settings.REGISTRY)
    monkeypatch.setattr("tasks.platforms.heroku.target.REGISTRY", heroku_settings.REGISTRY)
    elsewhere = "registry.example/wine"
    assert await platform(repository=elsewhere)._log_in() is None
    for settings in ({"repository": elsewhere}, {}):
        login = await platform(**settings, registry_block="theirs")._log_in()
        assert (login.username, login.password.get_secret_value()) == ("us", "p")
    login = await platform()._log_in()
    assert (login.username, login.password.get_secret_value()) == (user, "token")
