"""`slipway check`, on the real stack: what would be wrong with a deploy."""

from __future__ import annotations

import os

import pytest

from deployments.check import examine
from deployments.diagnosis import checks
from deployments.local.stack import Stack
from tasks.platforms.catalogue import load_environment
from tasks.release.locks.lock import hold, lock_of
from tests.code.deployments.servers import CHECKED_OUT, listed
from tests.stack_access import prefect_http


def test_local_environment_has_no_problem(stack: Stack) -> None:
    place = [f"--home={stack.home}", f"--env-file={os.devnull}"]
    done = CHECKED_OUT.run("deployments.cli", *place, "check", "local")
    assert done.returncode == 0, done.stdout + done.stderr
    for text in (
        "deploy/local",
        "supervisord keeps",
        "entry point",
        "can get, cannot put",
        "branches *; gate",
    ):
        assert text in done.stdout
    for identity in (stack.storage.read_write, stack.storage.read):
        assert identity.secret not in done.stdout + done.stderr


async def test_unknown_environment_is_the_only_problem() -> None:
    findings = await listed(examine("moon", local=True))
    assert list(findings) == ["settings"]
    assert "known: " in findings["settings"].text
    assert not findings["settings"].ok


@pytest.mark.usefixtures("shell")
async def test_unreachable_registry_is_a_problem_and_the_rest_is_checked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SLIPWAY_DOCKER_REPOSITORY", "127.0.0.1:9/wine")
    monkeypatch.setenv("SLIPWAY_DOCKER_WATCH", "30m")
    # Not the usual socket: where nobody is there, Docker's client leaves its end open.
    monkeypatch.setenv("SLIPWAY_DOCKER_ENGINE", "tcp://127.0.0.1:9")
    findings = await listed(examine("docker", local=True))
    assert not findings["target docker"].ok  # without an engine, that comes first
    assert "check" in findings["target docker"].fix or "start" in findings["target docker"].fix
    assert findings["deployment deploy/docker"].ok
    assert findings["deployment watch/docker"].ok


@pytest.mark.usefixtures("shell")
async def test_host_without_supervisord_is_a_problem(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("SLIPWAY_SUPERVISOR_URL")
    findings = await listed(examine("local", local=True))
    assert "this host lacks SLIPWAY_SUPERVISOR_URL" in findings["target process"].text


@pytest.mark.usefixtures("shell")
async def test_missing_or_paused_deployment_is_a_problem(stack: Stack) -> None:
    from prefect import get_client

    with prefect_http(stack) as http:
        deployment = http.get("/deployments/name/rollback/docker").raise_for_status().json()
        async with get_client() as client:
            absent = await listed(checks.check_deployment(client, "deploy/moon"))
            http.patch(f"/deployments/{deployment['id']}", json={"paused": True}).raise_for_status()
            try:
                paused = await listed(checks.check_deployment(client, "rollback/docker"))
            finally:
                http.patch(f"/deployments/{deployment['id']}", json={"paused": False})
    assert "slipway apply" in absent["deployment deploy/moon"].fix
    assert paused["deployment rollback/docker"].fix == "resume it in the UI"


@pytest.mark.usefixtures("shell")
async def test_lock_of_a_remote_environment_is_free_or_names_its_holder() -> None:
    environment = load_environment("flyio")
    free = await checks.check_lock(environment)
    assert free
    assert free.ok
    assert free.text == "it is free"
    async with hold(lock_of(environment), "wine@1234567"):
        lock = await checks.check_lock(environment)
    assert lock
    assert "flyio is held by flow run by hand for wine@1234567" in lock.text
    assert await checks.check_lock(load_environment("local")) is None
