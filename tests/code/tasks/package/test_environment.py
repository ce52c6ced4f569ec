"""Attacks by what a ref says of its packages: uv would run code for them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.core.errors import TerminalError
from tasks.package.environment import check_pinned, check_python, read_lock

_STATE = "nothing was trained"


def test_pinned_packages_with_hashes_and_markers_are_accepted() -> None:
    check_pinned(
        "# a comment\nnumpy==2.4.6 \\\n    --hash=sha256:0aff \\\n    --hash=sha256:1bee\n"
        "uvicorn[standard]==0.38.0 ; sys_platform != 'win32' \\\n    --hash=sha256:2cdd\n\n",
        _STATE,
    )


@pytest.mark.parametrize(
    "line",
    [
        "-e ./evil",
        "./evil",
        "evil @ file:///tmp/evil",
        "evil @ git+https://example.com/evil",
        "--index-url https://example.com",
        "numpy==2.4.6\n-e ./evil",
        "numpy>=2",
    ],
)
def test_anything_else_is_refused(line: str) -> None:
    with pytest.raises(TerminalError, match="no pinned package of an index"):
        check_pinned(line, _STATE)


def test_version_of_python_is_no_path() -> None:
    check_python("3.11", _STATE)
    check_python(">=3.11,<3.14", _STATE)
    for version in ("/tmp/evil/python", "pypy3", "cpython@/x", ""):
        with pytest.raises(TerminalError, match="no version of Python"):
            check_python(version, _STATE)


async def test_interpreter_that_a_project_names_runs_in_the_sandbox_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLIPWAY_HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    project, trace = tmp_path / "project", tmp_path / "trace"
    project.mkdir()
    trace.mkdir()
    (project / "pyproject.toml").write_text(
        '[project]\nname = "evil"\nversion = "0"\nrequires-python = ">=3.11"\n'
    )
    (project / "uv.lock").write_text(
        'version = 1\nrevision = 3\nrequires-python = ">=3.11"\n\n'
        '[[package]]\nname = "evil"\nversion = "0"\nsource = { virtual = "." }\n'
    )
    python = project / "python"
    python.write_text(f'#!/bin/sh\ntouch {trace}/ran\nexec python3 "$@"\n')
    python.chmod(0o755)
    (project / ".python-version").write_text(f"{python}\n")
    await read_lock(project, _STATE)
    assert not list(trace.iterdir())
