"""Workspaces in which the model part is run, in its own environment, by the tests."""

import atexit
import functools
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from model.stage_server import LIBRARIES
from tests.fork_server import ForkServer
from tests.template import copy_template

ROOT = Path(__file__).parents[3]
DRIVER = Path(__file__).with_name("run_stages.py")
GIT = ["git", "-c", "user.name=test", "-c", "user.email=test@localhost"]
STRICT = "error::UserWarning,error::FutureWarning,error::RuntimeWarning"
# What stages import that is not of the repository: its own modules differ between workspaces.
_LIBRARIES = (
    *LIBRARIES, "mlem.api", "mlem.contrib.numpy", "mlem.contrib.pandas", "mlem.contrib.sklearn"
)  # fmt: skip
_MLEM = {"MLEM_NO_ANALYTICS": "1", "ITERATIVE_DO_NOT_TRACK": "1", "MLEM_AUTOLOAD_EXTS": "false"}
_DVC = ("dvc.cli.parser", "dvc.config_schema", "dvc.dvcfile", "dvc.repo", "dvc.stage.run")
# As `python -c` and `python FILE` do it.
_MODEL_PROGRAM = """
import os, runpy, sys
sys.path[0] = os.getcwd()
kind = sys.argv.pop(1)
if kind == "-c":
    code = sys.argv.pop(1)
    exec(compile(code, "<string>", "exec"), {"__name__": "__main__"})
else:
    sys.argv[0] = kind
    runpy.run_path(kind, run_name="__main__")
"""
_DVC_PROGRAM = "import sys; from dvc.cli import main; sys.exit(main(sys.argv[1:]))"


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


@functools.cache
def _model_forks() -> ForkServer:
    python = Path(environment()["UV_PROJECT_ENVIRONMENT"], "bin", "python")
    forks = ForkServer(_LIBRARIES, environment() | _MLEM, [str(python)])
    atexit.register(forks.close)
    return forks


@functools.cache
def _dvc_forks() -> ForkServer:
    forks = ForkServer(_DVC, environment())
    atexit.register(forks.close)
    return forks


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
    return _check(done) if check else done


def dvc(*argv: str, cwd: Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run DVC in a workspace, in a forked process; all output is in `stdout`."""
    return _fork(_dvc_forks(), _DVC_PROGRAM, argv, cwd, check=check)


def model_python(
    *argv: str | Path, cwd: Path, check: bool = True
) -> subprocess.CompletedProcess[str]:
    """Run Python in the model environment, in a forked process; all output is in `stdout`."""
    return _fork(_model_forks(), _MODEL_PROGRAM, argv, cwd, check=check)


def _fork(
    forks: ForkServer, code: str, argv: Sequence[str | Path], cwd: Path, *, check: bool
) -> subprocess.CompletedProcess[str]:
    arguments = [str(item) for item in argv]
    process = forks.start(code, arguments, environment() | _MLEM, cwd)
    with process.stdout as output:
        text = output.read()
    done = subprocess.CompletedProcess(arguments, process.wait(240), text, "")
    return _check(done) if check else done


def _check(done: subprocess.CompletedProcess[str]) -> subprocess.CompletedProcess[str]:
    assert done.returncode == 0, f"{done.args}: {done.returncode}\n{done.stdout}{done.stderr}"
    return done


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
    """The default pipeline, run by DVC's command once a session in a folder of its own."""
    folder = Path(tempfile.mkdtemp(prefix="slipway-wine-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    workspace(folder)
    run("dvc", "repro", "--quiet", cwd=folder)
    return folder
