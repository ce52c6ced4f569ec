"""Ports that somebody listens on, or has reserved, are never taken."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from deployments.local import ports
from tasks.core.settings import CHECKOUT


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0"])
def test_port_in_use_is_not_free(address: str) -> None:
    with socket.socket() as listener:
        listener.bind((address, 0))
        listener.listen()
        port = listener.getsockname()[1]
        assert not ports.is_free(port)
    assert ports.is_free(port)


def test_another_port_is_chosen_for_one_in_use() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        taken = listener.getsockname()[1]
        chosen = ports.choose({"one": [taken], "two": [taken]}, keep={}, companions={})
    assert taken not in chosen.values()
    assert len(set(chosen.values())) == 2


def test_first_free_candidate_is_chosen_and_own_port_stays() -> None:
    with socket.socket() as own:
        own.bind(("127.0.0.1", 0))
        own.listen()
        running = own.getsockname()[1]
        free = ports.choose({"x": []}, keep={}, companions={})["x"]
        preferred = {"running": [running], "new": [running, free]}
        chosen = ports.choose(preferred, keep={"running": running}, companions={})
    assert chosen == {"running": running, "new": free}


def test_companion_port_must_be_free_as_well() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        above = listener.getsockname()[1]
        chosen = ports.choose({"x": [above - 100]}, keep={}, companions={"x": 100})
    assert chosen["x"] != above - 100


def test_port_is_reserved_for_its_owner_until_it_is_released() -> None:
    [port] = ports.choose({"x": []}, keep={}, companions={}, owner="one").values()
    again = ports.choose({"x": [port]}, keep={}, companions={}, owner="one")
    other = ports.choose({"x": [port]}, keep={}, companions={}, owner="other")
    assert again == {"x": port} != other
    ports.release("one")
    ports.release("other")
    assert ports.choose({"x": [port]}, keep={}, companions={}, owner="other") == {"x": port}
    ports.release("other")


def test_reservation_from_before_the_clock_was_set_back_does_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ports, "_SHARED", tmp_path)
    [port] = ports.choose({"x": []}, keep={}, companions={}, owner="killed").values()
    now = time.time()
    monkeypatch.setattr("deployments.local.ports.time.time", lambda: now - 3600)
    assert ports.choose({"x": [port]}, keep={}, companions={}, owner="other") == {"x": port}


def test_reservation_holds_for_a_session_with_temporary_files_elsewhere(tmp_path: Path) -> None:
    [port] = ports.choose({"x": []}, keep={}, companions={}, owner="one").values()
    choose = (
        "from deployments.local import ports;"
        f"print(ports.choose({{'x': [{port}]}}, keep={{}}, companions={{}}, owner='other')['x'])"
    )
    other = subprocess.run(
        [sys.executable, "-c", choose], env={**os.environ, "TMPDIR": str(tmp_path)}, cwd=CHECKOUT,
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    ports.release("one")
    ports.release("other")
    assert int(other.stdout) != port


def test_reservations_do_not_follow_a_link_that_another_user_has_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ports, "_SHARED", tmp_path)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / f"slipway-{os.getuid()}").symlink_to(elsewhere)
    (tmp_path / f"slipway-ports-{os.getuid()}.json").symlink_to(elsewhere / "file")
    assert ports.choose({"x": []}, keep={}, companions={}).keys() == {"x"}
    assert not list(elsewhere.iterdir())
