"""The process runner gets what we mean, and its password goes nowhere else."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from deployments.local import ports, processes
from deployments.local.ports import HOST
from deployments.local.program import Program
from deployments.local.supervisor import USERNAME, start_daemon, write_configuration
from tasks.core.errors import ConfigurationError, TransientError
from tasks.platforms.process.supervisor import Supervisor

PASSWORD = "not-to-be-seen"


def free_port() -> int:
    return ports.choose({"x": []}, keep={}, companions={})["x"]


def url(port: int) -> str:
    return f"http://{HOST}:{port}"


def test_special_characters_reach_the_program_unchanged(tmp_path: Path) -> None:
    folder = tmp_path / "a folder, ours"
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
