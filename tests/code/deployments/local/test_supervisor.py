"""The process runner gets what we mean, and its password goes nowhere else."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deployments.local import adoption, log_rotation, ports, processes, readiness
from deployments.local.ports import HOST
from deployments.local.program import Program
from deployments.local.supervisor import USERNAME, start_daemon, write_configuration
from tasks.core.errors import ConfigurationError, TransientError
from tasks.platforms.process.launch import read_process
from tasks.platforms.process.supervisor import Supervisor, record_of

PASSWORD = "not-to-be-seen"


def free_port() -> int:
    return ports.choose({"x": []}, keep={}, companions={})["x"]


def url(port: int) -> str:
    return f"http://{HOST}:{port}"


def test_special_characters_reach_the_program_unchanged(tmp_path: Path) -> None:
    folder = tmp_path / "a folder, 100% ours"
    folder.mkdir()
    variables = {"A": "100 %, 'quoted'# all; this", "B": 'with "double", quotes', "C": ""}
    code = "import json, os, time; json.dump(dict(os.environ), open('seen', 'w')); time.sleep(60)"
    program = Program("odd", (sys.executable, "-c", code), folder, variables)
    port = free_port()
    configuration = folder / "supervisord.conf"
    write_configuration(
        configuration, port=port, password=PASSWORD, logs=folder, programs=[program]
    )
    assert PASSWORD not in configuration.read_text()
    assert configuration.stat().st_mode & 0o077 == 0
    start_daemon(configuration, {processes.MARKER: PASSWORD})
    try:
        supervisor = Supervisor(url(port), USERNAME, PASSWORD)
        deadline = time.monotonic() + 20
        while not (seen := folder / "seen").exists() or not seen.read_text():
            assert time.monotonic() < deadline, supervisor.programs()
            time.sleep(0.05)
        import json

        assert json.loads(seen.read_text()).items() >= variables.items()
        assert not Supervisor(url(port), USERNAME, "wrong").alive()
    finally:
        processes.end(PASSWORD, grace_seconds=5)


def test_next_supervisord_adopts_what_a_killed_one_has_left(tmp_path: Path) -> None:
    # It ends if nobody takes what it prints, as programs in Go do.
    code = "import time; [print(time.time(), flush=time.sleep(0.1) is None) for _ in range(6000)]"
    program = Program("kept", (sys.executable, "-c", code), tmp_path)
    configuration, port, token = tmp_path / "supervisord.conf", free_port(), str(tmp_path)
    write_configuration(
        configuration, port=port, password=PASSWORD, logs=tmp_path, programs=[program]
    )
    supervisor = Supervisor(url(port), USERNAME, PASSWORD)
    record = record_of("kept", tmp_path)

    def wait_for(true: Callable[[], Any]) -> Any:
        deadline = time.monotonic() + 60
        while not (result := true()):
            assert time.monotonic() < deadline, supervisor.programs()
            time.sleep(0.05)
        return result

    def last_line() -> str:
        return (tmp_path / "kept.log").read_text().splitlines()[-1]

    def start_supervisord() -> None:
        start_daemon(configuration, {processes.MARKER: token})
        readiness.wait_for_supervisor(supervisor, tmp_path)
        wait_for(lambda: supervisor.programs()["kept"]["statename"] == "RUNNING")

    def kill_supervisord() -> None:
        os.kill(int((tmp_path / "supervisord.pid").read_text()), signal.SIGKILL)
        wait_for(lambda: not supervisor.alive())

    try:
        start_supervisord()
        first = read_process(record)
        assert first
        kill_supervisord()
        last = last_line()
        wait_for(lambda: last_line() != last)
        assert adoption.running_programs(tmp_path) == {"kept": first}
        start_supervisord()
        assert read_process(record) == first
        kill_supervisord()
        processes.end(token, grace_seconds=5, spare={first})  # as `up` does
        assert read_process(record) == first, "its stand-in has ended it"
        start_supervisord()
        os.kill(first, signal.SIGKILL)
        second = wait_for(lambda: {read_process(record)} - {None, first}).pop()
        kill_supervisord()
        start_supervisord()
        assert read_process(record) == second
        supervisor.stop("kept")
        assert read_process(record) is None
    finally:
        processes.end(token, grace_seconds=5)


def test_log_that_a_program_holds_open_is_kept_once_and_emptied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_rotation, "MAX_BYTES", 10)
    for name in ("kept", "small", "foreign"):
        (tmp_path / f"{name}.log").write_text(f"{name}\n" * (1 if name == "small" else 9))
    for name in ("kept", "small", "gone"):
        (tmp_path / f"{name}.pid").touch()
    with (tmp_path / "kept.log").open("a") as opened:
        log_rotation.rotate(tmp_path)
        print("later", file=opened)
    texts = {file.name: file.read_text() for file in tmp_path.glob("*.log*")}
    assert texts == {
        "kept.log": "later\n",
        "kept.log.1": "kept\n" * 9,
        "small.log": "small\n",
        "foreign.log": "foreign\n" * 9,
    }


def test_supervisord_has_logs_rotated_every_minute(tmp_path: Path) -> None:
    listener = [sys.executable, "-I", "-S", log_rotation.__file__, str(tmp_path)]
    (tmp_path / "kept.pid").touch()
    (tmp_path / "kept.log").write_bytes(bytes(log_rotation.MAX_BYTES + 1))
    event = "ver:3.0 server:supervisor serial:1 pool:x poolserial:1 eventname:TICK_60 len:15"
    done = subprocess.run(
        listener, input=f"{event}\nwhen:1201063880", capture_output=True, text=True, check=True
    )
    assert done.stdout == "READY\nRESULT 2\nOKREADY\n"
    assert (tmp_path / "kept.log").stat().st_size == 0


def test_record_of_a_process_whose_id_another_one_has_by_now_is_none(tmp_path: Path) -> None:
    record = tmp_path / "kept.pid"
    for content in (f"{os.getpid()} 1", "", "no number at all", f"{2**22 + 1} 1"):
        record.write_text(content)
        assert read_process(record) is None
    assert read_process(tmp_path / "none.pid") is None


@pytest.mark.parametrize("value", ["two\nlines", "a ;comment", "a # comment", "both \" and '"])
def test_value_that_supervisord_cannot_read_is_refused(tmp_path: Path, value: str) -> None:
    program = Program("odd", ("true",), tmp_path, {"A": value})
    with pytest.raises(ConfigurationError):
        write_configuration(
            tmp_path / "supervisord.conf",
            port=free_port(),
            password=PASSWORD,
            logs=tmp_path,
            programs=[program],
        )


def test_error_does_not_contain_the_password() -> None:
    with pytest.raises(TransientError) as error:
        Supervisor(url(free_port()), USERNAME, PASSWORD).programs()
    assert PASSWORD not in repr(error.value) + repr(error.value.__cause__)
