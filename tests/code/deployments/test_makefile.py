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


def test_help_is_the_default_and_lists_every_command() -> None:
    shown = make()
    assert shown.returncode == 0
    phony = re.search(r"^\.PHONY: (.*)$", (CHECKOUT / "Makefile").read_text(), re.MULTILINE)
    assert phony
    for target in phony[1].split():
        assert re.search(rf"^  make {target} ", shown.stdout, re.MULTILINE), target


def test_the_python_that_is_named_comes_first(tmp_path: Path) -> None:
    for name in ("Makefile", "pyproject.toml", "uv.lock", "model/pyproject.toml", "model/uv.lock"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy2(CHECKOUT / name, tmp_path / name)
    shown = make("--dry-run", "setup", folder=tmp_path, UV_PYTHON="/somewhere/python3.12")
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.count("for each in /somewhere/python3.12 python3.13") >= 2


def test_a_python_that_is_too_old_is_refused_with_a_reason(tmp_path: Path) -> None:
    for name in ("python3.13", "python3.12", "python3.11", "python3", "python"):
        fake = tmp_path / "bin" / name
        fake.parent.mkdir(exist_ok=True)
        fake.write_text("#!/bin/sh\nexit 1\n")
        fake.chmod(0o755)
    for name in ("make", "sh", "mkdir", "touch", "sed", "awk", "rm"):
        found = next(
            Path(folder) / name
            for folder in os.environ["PATH"].split(os.pathsep)
            if (Path(folder) / name).exists()
        )
        (tmp_path / "bin" / name).symlink_to(found)
    (tmp_path / "Makefile").write_text((CHECKOUT / "Makefile").read_text())
    for name in ("pyproject.toml", "uv.lock", "model/pyproject.toml", "model/uv.lock"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    refused = make("-C", str(tmp_path), "setup", PATH=str(tmp_path / "bin"))
    assert refused.returncode != 0
    assert "Slipway needs Python 3.11, 3.12 or 3.13" in refused.stderr


@pytest.mark.parametrize("python", [None, "#!/nowhere/python\n", "#!/bin/sh\nexit 1\n"])
def test_clean_removes_nothing_under_a_stack_that_it_cannot_stop(
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
