"""Workspaces in which the model part is run, in its own environment, by the tests."""

import atexit
import functools
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from tests.template import copy_template

ROOT = Path(__file__).parents[3]
DRIVER = Path(__file__).with_name("run_stages.py")
GIT = ["git", "-c", "user.name=test", "-c", "user.email=test@localhost"]
STRICT = "error::UserWarning,error::FutureWarning,error::RuntimeWarning"


@functools.cache
def environment() -> dict[str, str]:
    """Variables for processes that run stages: environment made once, warnings are errors."""
    variables = dict(os.environ)
    variables["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    variables.setdefault("UV_PROJECT_ENVIRONMENT", str(ROOT / "model" / ".venv"))
    variables.pop("VIRTUAL_ENV", None)
    sync = ["uv", "sync", "--quiet", "--project", str(ROOT / "model"), "--frozen"]
    subprocess.run(sync, check=True, env=variables, timeout=300)
    return variables | {"UV_NO_SYNC": "1", "PYTHONWARNINGS": STRICT}


def run(
    *argv: str | Path, cwd: Path, check: bool = True, **more: str
) -> subprocess.CompletedProcess[str]:
    """Run a program in a workspace, its output captured; `more` are environment variables."""
    done = subprocess.run(
        [str(item) for item in argv],
        cwd=cwd,
        env=environment() | more,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert not check or done.returncode == 0, (
        f"{argv}: {done.returncode}\n{done.stdout}{done.stderr}"
    )
    return done


def model_python(
    *argv: str | Path, cwd: Path, check: bool = True
) -> subprocess.CompletedProcess[str]:
    """Run Python in the model environment."""
    python = Path(environment()["UV_PROJECT_ENVIRONMENT"], "bin", "python")
    return run(python, *argv, cwd=cwd, check=check)


def workspace(folder: Path, **changes: dict[str, Any] | str | int) -> Path:
    """Commit the template's model part in a folder, with params.yaml changed."""
    copy_template(folder)
    change_params(folder, **changes)
    run("git", "init", "--quiet", cwd=folder)
    commit(folder)
    return folder


def change_params(folder: Path, **changes: dict[str, Any] | str | int) -> None:
    """Edit params.yaml: sections are updated key by key."""
    yaml = YAML()
    path = folder / "params.yaml"
    params = yaml.load(path)
    for key, value in changes.items():
        if isinstance(value, dict) and key in params:
            params[key].update(value)
        else:
            params[key] = value
    yaml.dump(params, path)


def commit(folder: Path) -> None:
    """Commit all there is."""
    run("git", "add", "--all", cwd=folder)
    run(*GIT, "commit", "--quiet", "--message", "test", cwd=folder)


def run_stages(*folders: Path) -> None:
    """Run all stages in each of the folders, in one process, without DVC."""
    model_python(DRIVER, *folders, cwd=folders[0])


@functools.cache
def trained_wine() -> Path:
    """The default pipeline, run with DVC once per test session in a folder of its own."""
    folder = Path(tempfile.mkdtemp(prefix="slipway-wine-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    workspace(folder)
    run("dvc", "repro", "--quiet", cwd=folder)
    return folder
