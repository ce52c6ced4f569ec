"""The flows on every platform; on `process` they have many more tests, in `../flows`.

All that they decide by the state of an environment is the same code on each: it is proven once, on
containers. That a platform tells its state rightly is in its contract.
"""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from prefect.client.schemas.objects import State

from deployments.local.stack import Stack
from flows.deploy import deploy
from flows.rollback import rollback
from tasks.package.package import Package
from tasks.release.locks.lock import lock_of
from tests.code.flows.harness import connect_s3
from tests.code.platforms.conftest import ELSEWHERE
from tests.code.platforms.places import Place
from tests.stack_access import prefect_of

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="session")
def line(stack: Stack, make_package: Callable[..., Package]) -> list[Package]:
    """Two commits on origin, one after the other, their models in the bucket."""
    made: list[Package] = []
    for name in ("older", "newer"):
        made.append(make_package(name, after=made[-1] if made else None))
        model = made[-1].workspace.path / "model" / "wine"
        key = f"dvc/files/md5/{made[-1].md5[:2]}/{made[-1].md5[2:]}"
        connect_s3(stack).put_object(Bucket=stack.storage.bucket, Key=key, Body=model.read_bytes())
    return made


@pytest.fixture
def origin(
    line: list[Package], stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:
    """The repository that flows deploy from; it knows of no release yet."""
    path = tmp_path / "origin"
    subprocess.run(
        ["git", "clone", "--quiet", "--bare", str(line[-1].workspace.path), str(path)], check=True
    )
    monkeypatch.setenv("SLIPWAY_ORIGIN", str(path))
    with prefect_of(stack):
        yield path


@pytest.fixture(params=["docker"])
def place(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Place:
    """A platform as an environment; the light model has no metrics to judge."""
    place: Place = request.getfixturevalue(f"{request.param}_place")
    open_policy = {"branches": ("*",), "gate": "advised", "signatures": "off"}
    environment = place.environment.model_copy(update=open_policy)
    for flow in ("deploy", "rollback"):
        monkeypatch.setattr(f"flows.{flow}.load_environment", lambda _: environment)
    return place


async def _deploy(place: Place, package: Package) -> State[dict[str, str]]:
    return await deploy(package.commit, place.environment.name, return_state=True)


@pytest.mark.usefixtures("origin")
@pytest.mark.parametrize("place", ELSEWHERE, indirect=True)
async def test_deploy_releases_once(
    place: Place, line: list[Package], models: list[Package]
) -> None:
    live = await place.ensure_live(models)
    with place.traffic(live) as traffic:
        released = await _deploy(place, line[0])
        assert (await released.aresult())["reason"] == "released"
        await place.assert_live(line[0])
        before = await place.snapshot()
        again = await _deploy(place, line[0])
        assert (await again.aresult())["reason"] == "already live"
        assert await place.snapshot() == before
    assert traffic.failures == []


@pytest.mark.usefixtures("origin")
async def test_concurrent_repeated_older_and_rollback_deploys_lose_no_request(
    place: Place, line: list[Package], models: list[Package], make_package: Callable[..., Package]
) -> None:
    old, new = line
    live = await place.ensure_live([*models, *line])
    await place.deploy(make_package("killed"), until="preflight")
    with place.traffic(live) as traffic:
        # Two at once: the second one waits.
        going = asyncio.create_task(_deploy(place, old))
        while not await lock_of(place.environment).read_holder():
            assert not going.done(), going.result()
            await asyncio.sleep(0.1)
        waiting = asyncio.create_task(_deploy(place, new))
        states = await asyncio.gather(going, waiting)
        assert [(await state.aresult())["reason"] for state in states] == ["released"] * 2
        await place.assert_live(new)

        # The same version again, and an older commit.
        before = await place.snapshot()
        again, older = await _deploy(place, new), await _deploy(place, old)
        assert (await again.aresult())["reason"] == "already live"
        assert older.name == "Superseded"
        assert await place.snapshot() == before

        # Back; what was taken back does not come again by itself.
        back = await rollback(place.environment.name, return_state=True)
        assert (await back.aresult())["commit"] == old.commit
        assert (await _deploy(place, new)).name == "Rejected"
        await place.assert_live(old)
    assert traffic.failures == []

    # No more is kept than asked for.
    seen = await place.snapshot()
    assert len(seen["kept"]) == 2
    assert len(seen["servers"]) == 1
    if "images" in seen:
        assert len(seen["images"]) == 2
        # Each with its own tag, and that of its bill of materials.
        assert len(seen["tags"]) == 4
