"""Commands for one stack see what its last start has left, and what the one before them did."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from deployments.local import lifecycle, state_file
from deployments.local.layout import Layout
from deployments.local.stack import Stack

PORTS = {"supervisor": 20_001, "prefect": 20_002}


class Interrupted(Exception):
    """The end of a test before any program is started or stopped."""


@pytest.fixture
def stack(tmp_path: Path) -> Stack:
    """Return a stack that has never been up."""
    return Stack(tmp_path, usual_ports=False)


@pytest.fixture
def ports_at_work(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> list[Mapping[str, int]]:
    """Start the stack while a command waits for its turn; return the ports that it then uses."""
    seen: list[Mapping[str, int]] = []

    @contextlib.contextmanager
    def wait_for_turn(_: Path) -> Iterator[None]:
        state_file.write_ports(stack.layout.with_ports(PORTS))
        yield

    def work(*arguments: object) -> None:
        seen.extend(item.ports for item in arguments if isinstance(item, Layout))
        raise Interrupted

    monkeypatch.setattr(lifecycle, "_locked", wait_for_turn)
    monkeypatch.setattr(lifecycle.origin, "bring_up_to_date", lambda *_: [])
    monkeypatch.setattr(lifecycle.data, "copy_objects", lambda *_: (0, []))
    monkeypatch.setattr(lifecycle, "_start_programs", work)
    monkeypatch.setattr(lifecycle, "_stop_programs", work)
    return seen


@pytest.mark.parametrize("command", [Stack.up, Stack.down])
def test_command_that_waited_sees_the_stack_that_was_started_meanwhile(
    command: Callable[[Stack], None], stack: Stack, ports_at_work: list[Mapping[str, int]]
) -> None:
    with pytest.raises(Interrupted):
        command(stack)
    assert ports_at_work == [PORTS]


def test_registry_that_the_last_start_did_not_need_has_no_address(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("supervisor", "prefect", "s3", "gateway-api")
    state_file.write_ports(
        replace(stack.layout, main_environment="docker", ports=dict.fromkeys(names, 20_001))
    )
    monkeypatch.delenv("SLIPWAY_DOCKER_REPOSITORY", raising=False)
    assert stack.layout.has_image_registry
    assert "SLIPWAY_DOCKER_REPOSITORY" not in stack.environment()
