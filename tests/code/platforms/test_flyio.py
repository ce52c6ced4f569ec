"""The properties of Fly.io: apps that Slipway creates and deletes, machines, addresses."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tasks.core.errors import ConfigurationError, TerminalError, TransientError
from tasks.images.build import Image
from tasks.images.reference import parse_reference
from tasks.package.package import Package
from tasks.platforms.base.image_target import StagedImage
from tasks.platforms.flyio.settings import FlyioEnvironment
from tasks.platforms.flyio.target import FlyioTarget
from tasks.repository.workspace import Workspace
from tests.code.platforms.fly_place import APP, FlyioPlace
from tests.stand_ins.faults import RestFaults
from tests.stand_ins.flyio import NEWER, App, Fly, FlyMachine
from tests.stand_ins.front import Front
from tests.stand_ins.openapi import published
from tests.stand_ins.serve import serving

_APP = "wine-on-paper"
_PACKAGE = Package(
    workspace=Workspace(Path("nowhere"), "c" * 40, "main"),
    model="wine",
    commit="1" * 40,
    md5="1" * 32,
    sha256="",
    size=1,
    python="3.11.2",
    packages={},
    golden={},
    serving="s" * 16,
)
_IMAGE = Image(parse_reference(f"registry.fly.io/{_APP}@sha256:{64 * '0'}"), {})
_STAGED = StagedImage(_PACKAGE, "20260101T000000-abcdef1-12ab", _IMAGE)


@pytest.fixture
def fly(front: Front) -> Fly:
    no_machines: Any = None
    return Fly(no_machines, front, "fm2_no-secret", str)


@pytest.fixture
def faults(fly: Fly) -> RestFaults:
    return RestFaults(fly.asgi)


@pytest.fixture
def target(faults: RestFaults, monkeypatch: pytest.MonkeyPatch) -> Iterator[FlyioTarget]:
    """A target whose images cannot be pushed: the login for its registry is missing."""
    secrets = {"slipway-fly-token": "fm2_no-secret"}

    async def read_secret(block: str) -> Any:  # there is no Prefect server
        return secrets.get(block)

    async def tried(*_: Any) -> None:
        """Skip the trial on the worker, which has tests of its own."""

    monkeypatch.setattr("tasks.platforms.base.rest.read_secret", read_secret)
    monkeypatch.setattr("tasks.images.login.read_secret", read_secret)
    monkeypatch.setattr(FlyioTarget, "_run_trial", tried)
    with serving(faults) as api:
        yield FlyioTarget(
            FlyioEnvironment(
                name="paper",
                target="flyio",
                app=_APP,
                organization="tests",
                region="ams",
                api=f"{api}/v1",
                registry_block="slipway-nobody",
            )
        )


@pytest.mark.parametrize(
    ("block", "next_step"),
    [
        ("slipway-fly-token", "set SLIPWAY_FLY_TOKEN and run `slipway apply`"),
        ("my-token", "create or correct block my-token, of type Secret, in the Prefect UI"),
    ],
)
@pytest.mark.parametrize("content", [None, "outdated"])
async def test_refused_token_names_its_block(
    target: FlyioTarget,
    monkeypatch: pytest.MonkeyPatch,
    block: str,
    next_step: str,
    content: str | None,
) -> None:
    async def read_secret(_: str) -> str | None:
        return content

    monkeypatch.setattr("tasks.platforms.base.rest.read_secret", read_secret)
    environment = target._environment.model_copy(update={"token_block": block})
    with pytest.raises(TerminalError, match=f"block secret/{block}") as refusal:
        await FlyioTarget(environment).status()
    assert refusal.value.next_step.endswith(next_step)


async def test_error_after_switch_does_not_name_old_version(
    fly: Fly, faults: RestFaults, target: FlyioTarget
) -> None:
    fly.apps[_APP] = App(_APP, "tests")
    faults.always("500", f"GET /v1/apps/{_APP}/machines")
    with pytest.raises(TransientError) as refusal:
        await target.tidy()
    assert refusal.value.state == "what is live goes on serving"


async def _fail(target: FlyioTarget, error: type[Exception] = ConfigurationError) -> None:
    with pytest.raises(error):
        await target.preflight(_PACKAGE, Path("nowhere"), "v1")


async def test_failed_preflight_deletes_new_app(fly: Fly, target: FlyioTarget) -> None:
    for _ in range(2):
        await _fail(target)
        assert fly.apps == {}
    assert [path for method, path, *_ in fly.requests if method == "DELETE"] == 2 * [
        f"/apps/{_APP}"
    ]


async def test_new_app_stays_while_preflight_is_repeated(
    fly: Fly, faults: RestFaults, target: FlyioTarget
) -> None:
    faults.fail_each_call("drop")
    while set(fly.apps) != {_APP}:
        await _fail(target, TransientError)
    faults.always("500", f"GET /v1/apps/{_APP}/ip_assignments")
    await _fail(target, TransientError)
    assert set(fly.apps) == {_APP}
    faults.clear()
    await _fail(target)
    assert fly.apps == {}


async def test_undeleted_app_does_not_hide_why_preflight_failed(
    fly: Fly, faults: RestFaults, target: FlyioTarget
) -> None:
    faults.always("500", f"DELETE /v1/apps/{_APP}")
    await _fail(target)
    assert set(fly.apps) == {_APP}


async def test_rollback_deletes_new_app(fly: Fly, target: FlyioTarget) -> None:
    await target._prepare()
    assert fly.apps[_APP].addresses
    for _ in range(2):
        await target.rollback(_STAGED)
        assert fly.apps == {}


async def test_foreign_app_stays(fly: Fly, target: FlyioTarget) -> None:
    theirs = fly.apps[_APP] = App(_APP, "tests", ["fdaa:0:18::1"])
    await _fail(target)
    await target.rollback(_STAGED)
    assert fly.apps == {_APP: theirs}


async def test_app_created_by_somebody_else_meanwhile_stays(
    fly: Fly, target: FlyioTarget, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = fly.apps[_APP] = App(_APP, "others")

    async def unseen() -> bool:
        return False

    monkeypatch.setattr(target._app, "exists", unseen)
    await _fail(target, TerminalError)
    assert fly.apps == {_APP: theirs}


def _machine(name: str, **metadata: str) -> FlyMachine:
    config = {"image": "wine", "checks": {"ready": {"path": "/"}}, "metadata": metadata}
    return FlyMachine(name, name, "ams", config, cordoned=True)


@pytest.mark.parametrize("others", [(), ("theirs",)])
async def test_remove_deletes_own_app_unless_others_have_machines_in_it(
    fly: Fly, target: FlyioTarget, others: Sequence[str]
) -> None:
    labels = {"environment": "paper", "app": "created", "release": "r", "images": ""}
    ours = _machine("ours", **{f"slipway_{key}": value for key, value in labels.items()})
    machines = {"ours": ours, **{name: _machine(name) for name in others}}
    fly.apps[_APP] = App(_APP, "tests", machines=machines)
    await target.remove()
    assert [(app.name, *app.machines) for app in fly.apps.values()] == [
        (_APP, name) for name in others
    ]


# With machines


@pytest.fixture
async def live_on_fly(flyio_place: FlyioPlace, models: list[Package]) -> Package:
    """The model that is live there when a test begins."""
    return await flyio_place.ensure_live(models)


async def test_older_version_is_live_after_kill_during_switch(
    flyio_place: FlyioPlace, live_on_fly: Package, models: list[Package]
) -> None:
    (new, *_) = [model for model in models if model is not live_on_fly]
    (old,) = flyio_place.machines()
    progress = await flyio_place.deploy(new, until="verify")
    flyio_place.fly.lease(old, seconds=600)
    with pytest.raises(TransientError, match="somebody else is changing a machine"):
        await progress.target.settle(progress.released)
    status = await flyio_place.target().status()
    assert status
    assert status.runs(live_on_fly)
    assert not status.healthy
    old.lease = None
    with flyio_place.traffic(new) as traffic:
        await flyio_place.deploy(new)
    assert traffic.failures == []
    await flyio_place.assert_live(new)


async def test_existing_app_keeps_its_addresses_and_stays(
    flyio_place: FlyioPlace, models: list[Package]
) -> None:
    await flyio_place.target().remove()
    findings = " ".join(await flyio_place.target().check())
    assert "the first deploy creates it" in findings
    private = App(APP, "tests", ["fdaa:0:18::1"])
    flyio_place.fly.apps[APP] = private
    try:
        await flyio_place.deploy(models[0], until="preflight")
        await flyio_place.target().remove()
        assert flyio_place.fly.apps == {APP: private}
        assert private.addresses == ["fdaa:0:18::1"]
        assert flyio_place.repository.tags() == []
    finally:
        del flyio_place.fly.apps[APP]


@pytest.mark.usefixtures("live_on_fly")
async def test_requests_match_the_description_of_fly(flyio_place: FlyioPlace) -> None:
    description = published("fly-machines.openapi.yaml", NEWER)
    requests = flyio_place.fly.requests
    assert ("POST", f"/apps/{APP}/machines") in {request[:2] for request in requests}
    assert [
        complaint for request in requests for complaint in description.complaints(*request)
    ] == []
