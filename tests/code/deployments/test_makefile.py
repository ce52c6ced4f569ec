"""The Makefile on its own."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tasks.core.settings import CHECKOUT


def make(
    *arguments: str, folder: Path = CHECKOUT, **variables: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["make", *arguments],
        cwd=folder,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
    )


def test_help_is_the_default_and_lists_every_target() -> None:
    done = make()
    assert done.returncode == 0
    phony = re.search(r"^\.PHONY: (.*)$", (CHECKOUT / "Makefile").read_text(), re.MULTILINE)
    assert phony
    for target in phony[1].split():
        assert re.search(rf"^  make {target} ", done.stdout, re.MULTILINE), target


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout with only the files that `make setup` reads."""
    folder = tmp_path / "checkout"
    for name in ("Makefile", "pyproject.toml", "uv.lock", "model/pyproject.toml", "model/uv.lock"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(CHECKOUT / name, folder / name)
    return folder


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A folder for PATH with what the Makefile needs of a system, and no Python."""
    folder = tmp_path / "bin"
    folder.mkdir()
    needed = "make sh cat chmod cp find mkdir rm rmdir sleep touch"
    for name in needed.split():
        path = shutil.which(name)
        assert path, name
        (folder / name).symlink_to(path)
    return folder


def add_program(folder: Path, name: str, script: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


# A Python of another version runs no program but one that asks for the version.
_PYTHON_3_14 = """case "$2" in *'(3, 14)'*) exit 1;; *'(3, 9)'*) exit 0;; *) exit 2;; esac"""
# Makes the environments that it is asked for, with a Python that writes no prefect.yaml.
_UV = """echo "$@" >> "$LOG"
case "$1 $2" in
  "python install") exit "$INSTALL";;
  "python find") [ -e "$LOG.found" ] || { touch "$LOG.found"; exit 1; }; echo /managed/3.13;;
  sync*) mkdir -p "$5/.venv/bin"; echo '#!/bin/sh' > "$5/.venv/bin/python"
    chmod +x "$5/.venv/bin/python";;
esac"""


def test_setup_uses_the_python_of_uv_python(checkout: Path, programs: Path, tmp_path: Path) -> None:
    add_program(programs, "uv", _UV)
    add_program(programs, "named", "exit 0")
    done = make("setup", folder=checkout, PATH=str(programs), LOG=str(tmp_path / "log"),
                UV_PYTHON=str(programs / "named"))  # fmt: skip
    assert done.returncode == 0, done.stderr
    calls = (tmp_path / "log").read_text().splitlines()
    assert sorted(calls) == [
        f"sync --quiet --frozen --project {project} --python {programs / 'named'}"
        for project in (".", "model")
    ]


def test_uv_downloads_a_python_if_all_are_too_new(
    checkout: Path, programs: Path, tmp_path: Path
) -> None:
    add_program(programs, "python3", _PYTHON_3_14)
    add_program(programs, "uv", _UV)
    done = make("setup", folder=checkout, PATH=str(programs), LOG=str(tmp_path / "log"),
                INSTALL="0", UV_PYTHON="")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines() == [
        "no Python 3.11, 3.12 or 3.13 on PATH: uv downloads Python 3.13, about 30 MB"
    ]
    calls = (tmp_path / "log").read_text().splitlines()
    assert calls[:3] == [
        "python find --no-python-downloads >=3.11,<3.14",
        "python install --quiet 3.13",
        "python find 3.13",
    ]
    assert sorted(calls[3:]) == [
        f"sync --quiet --frozen --project {project} --python /managed/3.13"
        for project in (".", "model")
    ]


def test_failed_download_names_the_pythons_to_install(
    checkout: Path, programs: Path, tmp_path: Path
) -> None:
    add_program(programs, "python3", _PYTHON_3_14)
    add_program(programs, "uv", _UV)
    refused = make("setup", folder=checkout, PATH=str(programs), LOG=str(tmp_path / "log"),
                   INSTALL="1", UV_PYTHON="")  # fmt: skip
    assert refused.returncode != 0
    assert "uv cannot download Python 3.13. Install Python 3.11, 3.12 or 3.13" in refused.stderr
    assert not (checkout / ".venv").exists()


def test_too_new_python_installs_uv(checkout: Path, programs: Path, tmp_path: Path) -> None:
    installed = f"mkdir -p $3/bin; cp {tmp_path}/pip $3/bin/python; chmod +x $3/bin/python; exit 0"
    (tmp_path / "uv").write_text(f"#!/bin/sh\n{_UV}\n")
    (tmp_path / "pip").write_text(f"#!/bin/sh\ncp {tmp_path}/uv .slipway/uv/bin/uv\n"
                                  "chmod +x .slipway/uv/bin/uv\n")  # fmt: skip
    add_program(programs, "python3", f'[ "$2" != venv ] || {{ {installed}; }}\n{_PYTHON_3_14}')
    done = make("setup", folder=checkout, PATH=str(programs), LOG=str(tmp_path / "log"),
                INSTALL="0", UV_PYTHON="")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "python install --quiet 3.13" in (tmp_path / "log").read_text()


def test_setup_without_uv_and_python_is_refused(checkout: Path, programs: Path) -> None:
    for name in ("python3.13", "python3.12", "python3.11", "python3", "python"):
        add_program(programs, name, "exit 1")
    refused = make("setup", folder=checkout, PATH=str(programs), UV_PYTHON="")
    assert refused.returncode != 0
    assert "Python 3.11, 3.12 or 3.13; neither is on PATH" in refused.stderr


def test_second_setup_waits_for_the_first(checkout: Path, programs: Path, tmp_path: Path) -> None:
    add_program(programs, "python3", "exit 0")
    under_way = tmp_path / "under-way"
    overlap = f'mkdir {under_way} || echo overlap >> "$LOG"; sleep 1; rmdir {under_way}'
    add_program(programs, "uv", f'{_UV}\n[ "$5" = model ] || {{ {overlap}; }}')
    variables = {**os.environ, "PATH": str(programs), "LOG": str(tmp_path / "log"), "UV_PYTHON": ""}
    both = [
        subprocess.Popen(["make", "setup"], cwd=checkout, env=variables, stdout=subprocess.PIPE)
        for _ in range(2)
    ]
    output = b"".join(entry.communicate()[0] for entry in both)
    assert [item.returncode for item in both] == [0, 0]
    assert b"waiting for another make setup" in output
    calls = (tmp_path / "log").read_text().splitlines()
    assert "overlap" not in calls
    assert len(calls) == 2  # the second finds both environments complete


def test_lock_of_a_killed_setup_is_taken_over(
    checkout: Path, programs: Path, tmp_path: Path
) -> None:
    add_program(programs, "python3", "exit 0")
    add_program(programs, "uv", _UV)
    with subprocess.Popen(["true"]) as gone:
        gone.wait()
    lock = checkout / ".slipway" / "setup.lock"
    lock.mkdir(parents=True)
    (lock / "pid").write_text(f"{gone.pid}\n")
    done = make("setup", folder=checkout, PATH=str(programs), LOG=str(tmp_path / "log"))
    assert done.returncode == 0, done.stderr
    assert not lock.exists()


@pytest.mark.timeout(30)
def test_setup_is_refused_where_it_cannot_write(checkout: Path, programs: Path) -> None:
    (checkout / ".slipway").touch()  # like a folder of another user, which root could write to
    refused = make("setup", folder=checkout, PATH=str(programs), UV_PYTHON="")
    assert refused.returncode != 0
    assert f"Cannot write to {checkout}/.slipway" in refused.stderr


@pytest.mark.parametrize("python", [None, "#!/nowhere/python\n", "#!/bin/sh\nexit 1\n"])
def test_clean_keeps_everything_if_the_stack_cannot_be_stopped(
    tmp_path: Path, python: str | None
) -> None:
    (tmp_path / "Makefile").write_text((CHECKOUT / "Makefile").read_text())
    if python:
        broken = tmp_path / ".venv" / "bin" / "python"
        broken.parent.mkdir(parents=True)
        broken.write_text(python)
        broken.chmod(0o755)
    pidfile = tmp_path / ".slipway" / "supervisor" / "supervisord.pid"
    pidfile.parent.mkdir(parents=True)
    with subprocess.Popen(["sleep", "60"]) as running:
        pidfile.write_text(f"{running.pid}\n")
        refused = make("-C", str(tmp_path), "clean")
        assert refused.returncode != 0
        assert f"process {running.pid}" in refused.stderr
        assert "make setup && make down" in refused.stderr
        assert pidfile.exists()
        running.kill()
    assert make("-C", str(tmp_path), "clean").returncode == 0
    assert not pidfile.exists()
