"""What every target does, on each platform: the flows around it have tests of their own."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable

import pytest

from deployments.local.containers import ModelContainers
from tasks.environments.docker import DockerEnvironment
from tasks.errors import TerminalError, TransientError
from tasks.packaging import Package
from tasks.platforms.heroku import app as heroku_app
from tasks.targets.switched import GatewaySettings
from tests.code.targets.fly_place import APP, FlyioPlace
from tests.code.targets.heroku_place import HerokuPlace
from tests.code.targets.places import DockerPlace, Place, RemotePlace
from tests.containers import free_port
from tests.platforms.faults import Kind
from tests.platforms.flyio import NEWER, App
from tests.platforms.openapi import published

_SAME = "the trial on the worker is the same for all platforms"
# Whether a server is the one that was released, not that of preflight: only that has a version.
_RELEASED = """
import json, os, sys, pathlib
_told = json.loads(os.environ.get("SLIPWAY_RELEASE") or "{}")
if "--bundle" in sys.argv:
    _bundle = pathlib.Path(sys.argv[sys.argv.index("--bundle") + 1])
    _told = json.loads((_bundle / "release.json").read_text())
if _told.get("version"):
    DEED
"""


def _says(package: Package) -> dict[str, str]:
    return {"commit": package.commit, "md5": package.md5}


async def _is_live(place: Place, package: Package) -> None:
    """Exactly this one is live, as the platform says and as it answers."""
    live = await place.target().status()
    assert live
    assert live.healthy
    assert live.runs(package)
    assert live.commit == package.commit
    assert (await place.served()).items() >= _says(package).items()
    assert len(await place.servers()) == 1


@pytest.fixture
async def live(place: Place, models: list[Package]) -> Package:
    """The model that is live when a test begins, whichever it is."""
    return await _begin(place, models)


async def _begin(place: Place, models: list[Package]) -> Package:
    said = await place.target().status()
    for each in models:
        if said and said.healthy and said.runs(each):
            return each
    await place.deploy(models[0])
    return models[0]


@pytest.fixture
def others(live: Package, models: list[Package]) -> list[Package]:
    """The models that are not live."""
    return [each for each in models if each is not live]


def _in_main(code: str) -> Callable[[str], str]:
    def change(source: str) -> str:
        doc, _, rest = source.partition('"""\n')
        return f'{doc}"""\n{code}\n{rest}'

    return change


def _other_prediction(text: str) -> str:
    golden = json.loads(text)
    golden["outputs"]["predict"][3] = (golden["outputs"]["predict"][3] + 1) % 3
    return json.dumps(golden)


async def test_a_check_says_what_is_there_and_changes_nothing(place: Place) -> None:
    before = await place.seen()
    assert await place.target().check()
    assert await place.seen() == before


async def test_nothing_becomes_live(place: Place, models: list[Package]) -> None:
    await place.target().remove()
    assert await place.target().status() is None
    await place.deploy(models[0])
    await _is_live(place, models[0])
    said = await place.served()
    assert (said["version"], said["environment"]) == ("v1", place.environment.name)


async def test_new_versions_take_over_without_a_lost_request_and_no_more_is_kept_than_asked_for(
    place: Place, live: Package, others: list[Package], make_package: Callable[..., Package]
) -> None:
    await place.deploy(make_package("killed"), until="preflight")
    with place.traffic(live) as traffic:
        for package in others:
            await place.deploy(package)
            await _is_live(place, package)
    assert traffic.answered
    assert not (place.drops_nothing and traffic.failures), traffic.failures
    seen = await place.seen()
    assert len(seen["kept"]) == 2
    assert len(seen["servers"]) == 1
    if "images" in seen:
        assert len(seen["images"]) == 2
        # Each with its own tag, and that of its bill of materials.
        assert len(seen["tags"]) == 4


@pytest.mark.parametrize(
    ("path", "change", "says"),
    [
        ("serving/__main__.py", _in_main("raise SystemExit('cannot go on')"), "cannot go on"),
        (
            "serving/__main__.py",
            _in_main("import time; print('waiting for Godot', flush=True); time.sleep(600)"),
            "not get ready within 5 s:\nwaiting for Godot",
        ),
        ("model/wine.golden.json", _other_prediction, "golden"),
    ],
    ids=["crashes", "never ready", "predicts differently"],
)
async def test_preflight_refuses_and_leaves_nothing(
    place: Place,
    live: Package,
    make_package: Callable[..., Package],
    path: str,
    change: Callable[[str], str],
    says: str,
) -> None:
    if place.proves_on_worker and says != "golden":
        pytest.skip(_SAME)
    before, bad = await place.seen(), make_package("bad", **{path: change})
    with place.traffic(live) as traffic, pytest.raises(TerminalError, match=says):
        await place.deploy(bad, ready_seconds=5 if "ready" in says else 60)
    assert not (place.drops_nothing and traffic.failures), traffic.failures
    assert await place.seen() == before
    await _is_live(place, live)


@pytest.mark.parametrize(
    ("deed", "soak"),
    [
        ("raise SystemExit('no room here')", 0.3),
        ("import threading; threading.Timer(6.0, lambda: os._exit(1)).start()", 30.0),
    ],
    ids=["at start", "during soak"],
)
async def test_what_fails_after_preflight_is_rolled_back(
    place: Place,
    live: Package,
    make_package: Callable[..., Package],
    deed: str,
    soak: float,
) -> None:
    fault = _in_main(_RELEASED.replace("DEED", deed))
    before, bad = await place.seen(), make_package("bad", **{"serving/__main__.py": fault})
    with pytest.raises(TerminalError):
        await place.deploy(bad, soak_seconds=soak)
    assert await place.seen() == before
    await _is_live(place, live)


@pytest.mark.parametrize("step", ["preflight", "release", "settle"])
async def test_killed_after_any_step_the_next_run_completes(
    place: Place, live: Package, others: list[Package], step: str
) -> None:
    if place.proves_on_worker and step == "preflight":
        pytest.skip(_SAME)
    if place.killed_in_flows:
        pytest.skip("runs are killed on it, at every step, by the tests of flows")
    new = others[0]
    with place.traffic(live) as traffic:
        await place.deploy(new, until=step)
        assert (await place.served())["commit"] in {live.commit, new.commit}
        await place.deploy(new)
    assert not (place.drops_nothing and traffic.failures), traffic.failures
    await _is_live(place, new)


async def test_a_step_may_be_repeated(place: Place, others: list[Package]) -> None:
    if isinstance(place, RemotePlace):
        pytest.skip("each step is repeated where any call may fail")
    target, new = place.target(), others[0]
    await target.preflight(new, new.workspace.path / "model" / "wine")
    for _ in range(2):
        await target.release("v2")
    for _ in range(2):
        await target.verify()
    for _ in range(2):
        await target.settle()
    for _ in range(2):
        await target.tidy()
    await _is_live(place, new)


async def test_a_live_server_that_died_is_seen_and_replaced(place: Place, live: Package) -> None:
    await place.break_live()
    said = await place.target().status()
    assert said
    assert not said.healthy
    await place.deploy(live)
    await _is_live(place, live)


@pytest.mark.usefixtures("live")
async def test_removed_it_leaves_nothing(place: Place) -> None:
    await place.target().remove()
    assert not any((await place.seen()).values())
    assert await place.target().status() is None
    with pytest.raises(AssertionError, match="404"):
        await place.served()


# What only platforms elsewhere have


@pytest.fixture
async def live_elsewhere(remote_place: RemotePlace, models: list[Package]) -> Package:
    """The model that is live there when a test begins."""
    return await _begin(remote_place, models)


# What hangs is waited for less long than usual, so it is tried by itself.
@pytest.mark.parametrize("kinds", [("429", "500", "drop"), ("hang",)], ids="-".join)
async def test_any_call_may_fail(
    remote_place: RemotePlace,
    live_elsewhere: Package,
    models: list[Package],
    kinds: tuple[Kind, ...],
) -> None:
    (new, *_) = [each for each in models if each is not live_elsewhere]
    remote_place.faults.each(*kinds)
    try:
        await remote_place.deploy(new)
    finally:
        remote_place.faults.clear()
    await _is_live(remote_place, new)
    assert len((await remote_place.seen())["servers"]) == 1


async def test_what_the_platform_never_does_is_rolled_back(
    remote_place: RemotePlace, live_elsewhere: Package, models: list[Package]
) -> None:
    (new, *_) = [each for each in models if each is not live_elsewhere]
    before = await remote_place.seen()
    for call in remote_place.necessary_calls:
        remote_place.faults.always("500", call)
        try:
            with pytest.raises(TransientError):
                await remote_place.deploy(new)
            assert remote_place.faults.calls[call] > 1
        finally:
            remote_place.faults.clear()
        assert await remote_place.seen() == before
    await _is_live(remote_place, live_elsewhere)


async def test_wrong_credentials_are_told_and_nothing_is_changed(
    remote_place: RemotePlace, live_elsewhere: Package
) -> None:
    before = await remote_place.seen()
    settings, says = remote_place.wrong_credentials
    with pytest.raises(TerminalError, match=says) as told:
        await remote_place.deploy(live_elsewhere, **settings)
    assert told.value.next_step
    assert await remote_place.seen() == before


async def test_what_is_live_is_read_without_changing_anything(
    remote_place: RemotePlace, live_elsewhere: Package
) -> None:
    remote_place.faults.clear()
    said = await remote_place.target().status()
    assert said
    assert said.runs(live_elsewhere)
    assert {call.split()[0] for call in remote_place.faults.calls} == {"GET"}
    assert sum(remote_place.faults.calls.values()) < 10


# What only Heroku has


async def test_scale_and_image_are_as_before_after_a_rollback(
    heroku_place: HerokuPlace, models: list[Package], make_package: Callable[..., Package]
) -> None:
    live = await _begin(heroku_place, models)
    fault = _in_main(_RELEASED.replace("DEED", "raise SystemExit('no room here')"))
    before, bad = await heroku_place.seen(), make_package("b", **{"serving/__main__.py": fault})
    with pytest.raises(TerminalError, match="no room here"):
        await heroku_place.deploy(bad, quantity=2, size="performance-m", preboot=False)
    assert await heroku_place.seen() == before
    await _is_live(heroku_place, live)


async def test_a_release_phase_that_fails_leaves_what_was_live(
    heroku_place: HerokuPlace, models: list[Package]
) -> None:
    live = await _begin(heroku_place, models)
    (new, *_) = [each for each in models if each is not live]
    before, releases = await heroku_place.seen(), len(heroku_place.app.releases)
    heroku_place.app.release_phase_fails = True
    try:
        with pytest.raises(TerminalError, match="release phase of v") as told:
            await heroku_place.deploy(new, quantity=2)
    finally:
        heroku_place.app.release_phase_fails = False
    assert "heroku releases:output" in told.value.next_step
    assert await heroku_place.seen() == before
    # Nothing was rolled back that had never been live.
    assert len(heroku_place.app.releases) == releases + 1


async def test_a_first_release_that_fails_runs_nothing(
    heroku_place: HerokuPlace, make_package: Callable[..., Package]
) -> None:
    await heroku_place.target().remove()
    before = await heroku_place.seen()
    fault = _in_main(_RELEASED.replace("DEED", "raise SystemExit('no room here')"))
    with pytest.raises(TerminalError, match="no room here"):
        await heroku_place.deploy(make_package("c", **{"serving/__main__.py": fault}))
    assert await heroku_place.seen() == before
    assert await heroku_place.target().status() is None


async def test_a_new_app_is_where_and_whose_the_file_says(heroku_place: HerokuPlace) -> None:
    settings = {"app": "wine-of-a-team", "region": "eu", "team": "models"}
    (_, found) = await heroku_place.target(**settings).check()
    assert found == "the first deploy creates app wine-of-a-team: eu, team models"
    with pytest.raises(TerminalError, match="Couldn't find that team"):
        await heroku_place.target(**{**settings, "team": "nobody"}).check()
    environment = heroku_place.environment.model_copy(update=settings)
    for _ in range(2):
        await heroku_app.App(environment).create()
    made = heroku_place.heroku.apps.pop("wine-of-a-team")
    assert (made.owner, made.region, made.stack) == ("models", "eu", "container")


async def test_an_app_of_buildpacks_is_left_alone(
    heroku_place: HerokuPlace, models: list[Package]
) -> None:
    await _begin(heroku_place, models)
    assert "runs v" in " ".join(await heroku_place.target().check())
    heroku_place.app.stack = "heroku-24"
    try:
        with pytest.raises(TerminalError, match="has the stack heroku-24") as told:
            await heroku_place.deploy(models[0])
    finally:
        heroku_place.app.stack = "container"
    assert "heroku stack:set container" in told.value.next_step


async def test_heroku_is_asked_as_it_is_described(
    heroku_place: HerokuPlace, models: list[Package]
) -> None:
    if heroku_place.heroku.schema is None:
        pytest.skip("SLIPWAY_TEST_SCHEMAS names no folder with Heroku's description of its API")
    await _begin(heroku_place, models)
    assert heroku_place.heroku.complaints == []


# What only containers have


async def test_a_container_can_do_little_and_is_not_large(
    docker_place: DockerPlace, models: list[Package]
) -> None:
    await docker_place.deploy(models[0])
    (name,) = await docker_place.servers()
    container = docker_place.client.containers.get(name)
    may, has = container.attrs["HostConfig"], container.attrs["Config"]
    assert may["ReadonlyRootfs"]
    assert may["CapDrop"] == ["ALL"]
    assert may["SecurityOpt"] == ["no-new-privileges:true"]
    assert (may["Memory"], may["NanoCpus"], may["PidsLimit"]) == (2**30, 10**9, 256)
    assert may["PortBindings"]["8080/tcp"][0]["HostIp"] == "127.0.0.1"
    assert may["RestartPolicy"]["Name"] == "unless-stopped"
    assert has["User"] == "65532:65532"
    assert "@sha256:" in has["Image"]
    written = container.exec_run(["python3", "-c", "open('/app/written', 'w')"])
    assert b"Read-only file system" in written.output
    healthy = container.exec_run(has["Healthcheck"]["Test"][1:])
    assert healthy.exit_code == 0, healthy.output
    assert container.image.attrs["Size"] < 350e6


async def test_it_goes_down_and_up_with_the_stack(docker_place: DockerPlace) -> None:
    before = await docker_place.servers()
    host = GatewaySettings()  # type: ignore[call-arg]  # from the environment
    assert isinstance(docker_place.environment, DockerEnvironment)
    containers = ModelContainers(docker_place.environment, host.gateway, host.gateway_api)
    containers.stop()
    assert await docker_place.servers() == []
    containers.resume()
    assert await docker_place.servers() == before
    async with asyncio.timeout(docker_place.environment.ready_seconds):
        while not ((live := await docker_place.target().status()) and live.healthy):
            await asyncio.sleep(0.2)


async def test_only_what_a_killed_preflight_has_left_here_is_removed(
    docker_place: DockerPlace,
) -> None:
    (live,) = await docker_place.servers()
    container = docker_place.client.containers.get(live)

    def left(**says: str) -> str:
        labels = {
            **container.labels,
            "io.slipway.release": "20260101T000000-a-b",
            "io.slipway.role": "preflight",
            **{f"io.slipway.{name}": value for name, value in says.items()},
        }
        started = docker_place.client.containers.run(
            container.attrs["Config"]["Image"],
            entrypoint=["python3", "-c", "import time; time.sleep(600)"],
            labels=labels,
            detach=True,
        )
        return str(started.name)

    ours = left()
    # Of another environment, and of one of this name behind the proxy of another stack.
    others = {left(environment="docker-eu"), left(proxy="another")}
    try:
        await docker_place.target().tidy()
        there = {each.name for each in docker_place.client.containers.list(all=True)}
        assert ours not in there
        assert {live, *others} <= there
    finally:
        for name in others:
            docker_place.client.containers.get(name).remove(force=True)


async def test_without_an_engine_it_says_what_to_do(docker_place: DockerPlace) -> None:
    target = docker_place.target(engine=f"tcp://127.0.0.1:{free_port()}")
    with pytest.raises(TransientError, match="the Docker engine does not answer") as told:
        await target.tidy()
    assert "group `docker`" in told.value.next_step


# What only Fly.io has


@pytest.fixture
async def live_on_fly(flyio_place: FlyioPlace, models: list[Package]) -> Package:
    """The model that is live there when a test begins."""
    return await _begin(flyio_place, models)


async def test_killed_while_two_versions_are_asked_the_older_one_is_live(
    flyio_place: FlyioPlace, live_on_fly: Package, models: list[Package]
) -> None:
    (new, *_) = [each for each in models if each is not live_on_fly]
    (old,) = flyio_place.machines()
    target = await flyio_place.deploy(new, until="verify")
    flyio_place.fly.lease(old, seconds=600)
    with pytest.raises(TransientError, match="somebody else is changing a machine"):
        await target.settle()
    said = await flyio_place.target().status()
    assert said
    assert said.runs(live_on_fly)
    assert not said.healthy
    old.lease = None
    with flyio_place.traffic(new) as traffic:
        await flyio_place.deploy(new)
    assert traffic.failures == []
    await _is_live(flyio_place, new)


async def test_an_app_that_was_there_keeps_its_addresses_and_stays(
    flyio_place: FlyioPlace, models: list[Package]
) -> None:
    await flyio_place.target().remove()
    found = " ".join(await flyio_place.target().check())
    assert "the first deploy creates it" in found
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
async def test_requests_are_as_fly_describes_them(flyio_place: FlyioPlace) -> None:
    description = published("fly-machines.openapi.yaml", NEWER)
    asked = flyio_place.fly.requests
    assert ("POST", f"/apps/{APP}/machines") in {each[:2] for each in asked}
    assert [said for each in asked for said in description.complaints(*each)] == []
