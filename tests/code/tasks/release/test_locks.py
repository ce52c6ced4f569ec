"""Locks of one host, and of all hosts on a real Prefect server, with holders that are killed."""

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
from tests.stack_access import prefect_of
from tests.stand_ins.serve import serving

# For holders that must not lose a lock on a slow machine, and for those that must do so soon.
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
    with prefect_of(stack):
        yield


@pytest.fixture(params=["host", "shared"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def name() -> str:
    """A name that no other test locks."""
    return f"test-{uuid4().hex[:8]}"


def _lock(kind: str, name: str, rhythm: Rhythm = _PATIENT) -> Lock:
    return HostLock(name) if kind == "host" else SharedLock(name, rhythm)


@pytest.fixture
def killed(kind: str, name: str, stack: Stack) -> str:
    """The name of a lock whose holder was killed."""
    variables = {
        **os.environ,
        "PREFECT_API_URL": stack.prefect_api_url,
        "PREFECT_API_AUTH_STRING": stack.credentials.prefect,
    }
    with subprocess.Popen(
        [sys.executable, "-c", _HOLD, kind, name],
        cwd=CHECKOUT, env=variables, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout
        assert process.stdout.readline() == "held\n"
        process.kill()
    return name


def test_cloud_environments_are_locked_for_all_hosts() -> None:
    settings = {"name": "far", "target": "none", "repository": "registry/wine"}
    elsewhere = CloudEnvironment.model_validate(settings)
    assert isinstance(lock_of(elsewhere), SharedLock)
    assert isinstance(lock_of(load_environment("local")), HostLock)


async def test_one_run_holds_the_lock_at_a_time(kind: str, name: str) -> None:
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
    assert await _lock(kind, name).read_holder() is None


async def test_waiting_run_logs_the_holder_and_times_out(
    kind: str, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="prefect.slipway")
    async with hold(_lock(kind, name), "wine@1234567"):
        holder = await _lock(kind, name).read_holder()
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


async def test_lock_of_a_killed_holder_is_recovered(kind: str, killed: str) -> None:
    async with hold(_lock(kind, killed, _HASTY), "wine@1234567", wait=60):
        holder = await _lock(kind, killed).read_holder()
        assert holder
        assert holder.version == "wine@1234567"


async def test_holder_that_renews_keeps_its_lock(name: str) -> None:
    waiting = SharedLock(name, replace(_PATIENT, gone=6.0))
    async with hold(_lock("shared", name), "wine@1234567"):
        with pytest.raises(TransientError, match="was locked for"):
            async with hold(waiting, "wine@7654321", wait=7.0):
                pytest.fail("it is held")


async def test_lock_holder_that_loses_it_aborts(name: str) -> None:
    next_lock, rolled_back = _lock("shared", name), False

    async def take_over() -> bool:
        async with get_client() as client:
            await client.delete_variable_by_name(f"slipway_lock_{name}")
        return await next_lock.take(Holder.this_run("wine@7654321"))

    async def deploy() -> None:
        nonlocal rolled_back, other
        async with hold(_lock("shared", name), "wine@1234567"):
            try:
                # In a task of its own: this block may be stopped as soon as the lock is gone.
                other = asyncio.create_task(take_over())
                await asyncio.sleep(60)
            finally:
                await asyncio.sleep(0.1)  # a rollback takes time
                rolled_back = True

    other: asyncio.Task[bool] | None = None
    with pytest.raises(TransientError, match=f"lost the lock of {name}"):
        await deploy()
    assert rolled_back
    assert other
    assert await other
    async with next_lock.keep():
        holder = await _lock("shared", name).read_holder()
        assert holder
        assert holder.version == "wine@7654321"


async def test_holder_that_cannot_renew_aborts_before_another_takes_the_lock(name: str) -> None:
    lock = _lock("shared", name, _HASTY)
    away = {PREFECT_API_URL: "http://127.0.0.1:9/api", PREFECT_CLIENT_MAX_RETRIES: 0}
    assert await lock.take(Holder.this_run("wine@1234567"))
    with temporary_settings(away), pytest.raises(TransientError, match="lost the lock"):
        async with lock.keep():
            await asyncio.sleep(60)
    waiting = _lock("shared", name, _HASTY)
    # Seen for the first time, its holder is not yet taken for dead.
    assert not await waiting.take(Holder.this_run("wine@1234567"))
    async with hold(waiting, "wine@7654321", wait=60):
        pass


async def test_lock_whose_answer_was_lost_is_held(name: str) -> None:
    lock = _lock("shared", name)
    assert await lock.take(Holder.this_run("wine@1234567"))
    assert await lock.take(Holder.this_run("wine@1234567"))
    async with lock.keep():
        assert not await _lock("shared", name).take(Holder.this_run("wine@1234567"))
    assert await _lock("shared", name).read_holder() is None


async def test_key_without_the_right_to_lock_is_refused_at_once(name: str) -> None:
    async def refuse(_: Request) -> Response:
        return Response(status_code=403)

    app = Starlette(routes=[Route("/{path:path}", refuse, methods=["GET", "POST"])])
    with (
        serving(app) as url,
        temporary_settings({PREFECT_API_URL: f"{url}/api"}),
        pytest.raises(TerminalError, match=f"refuses to lock {name}: 403") as refused,
    ):
        async with hold(SharedLock(name), "wine@1234567"):
            pytest.fail("it cannot be held")
    assert "to write variables" in refused.value.next_step
