"""Stages run in the right environment, also in the copies in which experiments run."""

import os
from pathlib import Path

import pytest

from tests.code.model import support

_UV = """#!/bin/sh
echo "${UV_PROJECT_ENVIRONMENT:-none}" > "$ENVIRONMENT_USED"
"""


@pytest.fixture
def used(tmp_path: Path) -> Path:
    """A file in which a stand-in for uv writes the environment that it was given."""
    uv = tmp_path / "bin" / "uv"
    uv.parent.mkdir()
    uv.write_text(_UV)
    uv.chmod(0o755)
    return tmp_path / "used"


def run(*argv: str, cwd: Path, used: Path, **variables: str) -> str:
    path = f"{used.with_name('bin')}{os.pathsep}{support.environment()['PATH']}"
    settings = {"PATH": path, "ENVIRONMENT_USED": str(used), "UV_PROJECT_ENVIRONMENT": ""}
    support.run(*argv, cwd=cwd, **settings | variables)
    return used.read_text().strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    return support.workspace(tmp_path / "repository")


def test_stage_uses_the_environment_of_its_repository_or_the_one_named(
    repository: Path, used: Path
) -> None:
    stage = ("sh", "model/stage.sh", "model.fetch")
    assert run(*stage, cwd=repository, used=used) == str(repository / "model" / ".venv")
    named = {"UV_PROJECT_ENVIRONMENT": "/an/environment"}
    assert run(*stage, cwd=repository, used=used, **named) == "/an/environment"


def test_copy_that_locks_other_packages_gets_an_environment_of_its_own(
    repository: Path, used: Path
) -> None:
    copy = support.workspace(repository / ".dvc" / "tmp" / "exps" / "tmp1")
    stage = ("sh", "model/stage.sh", "model.fetch")
    assert run(*stage, cwd=copy, used=used) == str(repository / "model" / ".venv")
    (copy / "model" / "uv.lock").write_text("other packages")
    assert run(*stage, cwd=copy, used=used) == "none"


def test_experiment_in_a_temporary_folder_shares_the_environment(
    repository: Path, used: Path
) -> None:
    # The stage leaves no output, so the experiment fails: after it has named its environment.
    experiment = ("dvc", "exp", "run", "--temp", "--set-param", "train.cv=3", "fetch")
    with pytest.raises(AssertionError, match=r"output 'data/raw\.csv' does not exist"):
        run(*experiment, cwd=repository, used=used)
    assert used.read_text().strip() == str(repository / "model" / ".venv")
