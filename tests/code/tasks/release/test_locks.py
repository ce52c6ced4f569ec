"""Locks of this host, and of all hosts: on a real Prefect server, with holders that are killed."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from deployments.local.stack import Stack
from tasks.core.errors import TerminalError, TransientError
from tasks.core.settings import CHECKOUT
from tasks.platforms.base.settings import CloudEnvironment
from tasks.platforms.catalogue import load_environment
from tasks.release.locks.holder import Holder
from tasks.release.locks.host import HostLock
from tasks.release.locks.lock import Lock, hold, lock_of
from tasks.release.locks.shared import Rhythm, SharedLock
from tests.stand_ins.serve import serving

# Of who is to keep it, however slow the machine is, and of who is to give up, or to take it soon.
_PATIENT = Rhythm(renew=0.5, lost=60.0, gone=100.0, poll=0.1)
_HASTY = Rhythm(renew=0.3, lost=1.5, gone=2.0, poll=0.1)
_HOLD = """
import asyncio, sys
from tasks.release.locks.host import HostLock
from tasks.release.locks.lock import hold
from tasks.release.locks.shared import SharedLock

async def main(kind, name):
    lock = HostLock(name) if kind == "host" else SharedLock(name)
    async with hold(lock, "wine@aaaaaaa"):
        print("held", flush=True)
        await asyncio.sleep(600)

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.fixture(autouse=True)
def _here(stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("SLIPWAY_HOME", str(tmp_path))
    with temporary_settings({PREFECT_API_URL: stack.prefect_api_url}):
        yield


@pytest.fixture(params=["host", "shared"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def name() -> str:
    """A name that nobody else locks."""
    return f"test-{uuid4().hex[:8]}"


def _lock(kind: str, name: str, rhythm: Rhythm = _PATIENT) -> Lock:
    return HostLock(name) if kind == "host" else SharedLock(name, rhythm)


@pytest.fixture
def killed(kind: str, name: str, stack: Stack) -> str:
    """The name of a lock whose holder was killed."""
    variables = {**os.environ, "PREFECT_API_URL": stack.prefect_api_url}
    with subprocess.Popen(
        [sys.executable, "-c", _HOLD, kind, name],
        cwd=CHECKOUT, env=variables, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout
        assert process.stdout.readline() == "held\n"
        process.kill()
    return name


def test_environments_elsewhere_are_locked_for_all_hosts() -> None:
    said = {"name": "far", "target": "none", "repository": "registry/wine"}
    elsewhere = CloudEnvironment.model_validate(said)
    assert isinstance(lock_of(elsewhere), SharedLock)
    assert isinstance(lock_of(load_environment("local")), HostLock)


async def test_one_holds_it_at_a_time(kind: str, name: str) -> None:
    inside, most = 0, 0

    async def work() -> None:
        nonlocal inside, most
        async with hold(_lock(kind, name), "wine@1234567"):
            inside += 1
            most = max(most, inside)
            await asyncio.sleep(0.1)
            inside -= 1

    await asyncio.gather(*(work() for _ in range(3)))
    assert most == 1
    assert await _lock(kind, name).holder() is None


async def test_who_waits_says_for_whom_and_gives_up(
    kind: str, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="prefect.slipway")
    async with hold(_lock(kind, name), "wine@1234567"):
        holder = await _lock(kind, name).holder()
        assert holder
        assert holder.version == "wine@1234567"
        with pytest.raises(
            TransientError, match=re.escape(f"{name} was locked for 0 s by {holder}")
        ):
            async with hold(_lock(kind, name), "wine@7654321", wait=0.3):
                pytest.fail("it is held")
    assert f"{name} is locked by flow run by hand for wine@1234567 since {holder.since}" in (
        caplog.text
    )


async def test_the_lock_of_one_that_was_killed_is_recovered(kind: str, killed: str) -> None:
    async with hold(_lock(kind, killed, _HASTY), "wine@1234567", wait=60):
        holder = await _lock(kind, killed).holder()
        assert holder
        assert holder.version == "wine@1234567"


async def test_a_holder_that_renews_is_not_taken_for_gone(name: str) -> None:
    waiting = SharedLock(name, replace(_PATIENT, gone=6.0))
    async with hold(_lock("shared", name), "wine@1234567"):
        with pytest.raises(TransientError, match="was locked for"):
            async with hold(waiting, "wine@7654321", wait=7.0):
                pytest.fail("it is held")


async def test_who_loses_it_gives_up_and_leaves_it_to_the_next(name: str) -> None:
    next_one, rolled_back = _lock("shared", name), False

    async def deploy() -> None:
        nonlocal rolled_back
        async with hold(_lock("shared", name), "wine@1234567"):
            async with get_client() as client:
                await client.delete_variable_by_name(f"slipway_lock_{name}")
            assert await next_one.take(Holder.this_run("wine@7654321"))
            try:
                await asyncio.sleep(60)
            finally:
                await asyncio.sleep(0.1)  # giving up may take its time
                rolled_back = True

    with pytest.raises(TransientError, match=f"lost the lock of {name}"):
        await deploy()
    assert rolled_back
    async with next_one.kept():
        holder = await _lock("shared", name).holder()
        assert holder
        assert holder.version == "wine@7654321"


async def test_who_cannot_renew_it_gives_up_before_others_take_it(name: str) -> None:
    lock = _lock("shared", name, _HASTY)
    away = {PREFECT_API_URL: "http://127.0.0.1:9/api", PREFECT_CLIENT_MAX_RETRIES: 0}
    assert await lock.take(Holder.this_run("wine@1234567"))
    with temporary_settings(away), pytest.raises(TransientError, match="lost the lock"):
        async with lock.kept():
            await asyncio.sleep(60)
    waiting = _lock("shared", name, _HASTY)
    # Seen for the first time, it is not yet taken for gone.
    assert not await waiting.take(Holder.this_run("wine@1234567"))
    async with hold(waiting, "wine@7654321", wait=60):
        pass


async def test_a_lock_the_answer_to_which_was_lost_is_ours(name: str) -> None:
    lock = _lock("shared", name)
    assert await lock.take(Holder.this_run("wine@1234567"))
    assert await lock.take(Holder.this_run("wine@1234567"))
    async with lock.kept():
        assert not await _lock("shared", name).take(Holder.this_run("wine@1234567"))
    assert await _lock("shared", name).holder() is None


async def test_a_key_that_may_not_lock_is_told_at_once(name: str) -> None:
    async def refuse(_: Request) -> Response:
        return Response(status_code=403)

    app = Starlette(routes=[Route("/{path:path}", refuse, methods=["GET", "POST"])])
    with (
        serving(app) as url,
        temporary_settings({PREFECT_API_URL: f"{url}/api"}),
        pytest.raises(TerminalError, match=f"lock {name}: 403") as told,
    ):
        async with hold(SharedLock(name), "wine@1234567"):
            pytest.fail("it cannot be held")
    assert "right to write variables" in told.value.next_step
