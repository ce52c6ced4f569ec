"""The repository's own model, trained and served: the fixtures of `tests/model` and `tests/data`.

The pipeline runs in a copy of the working tree, uncommitted work included, so that tests change
nothing in the checkout; only DVC's cache is shared with it, so that what has been made is not made
again.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from filelock import FileLock

from tasks.core.settings import CHECKOUT
from tasks.package.bundle import make_bundle
from tasks.package.package import read_package
from tasks.package.runtime import make_runtime
from tasks.package.server import serve
from tasks.repository.workspace import Workspace
from tasks.training.model_under_test import Served, Trained
from tests.code.serving.running import Server, clean_environment, free_port
from tests.commits import commit_all
from tests.template import working_tree

TRAINING_SECONDS = 4 * 3600.0  # as long as the flows allow by default


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """The model of the working tree: what changed is trained anew, what did not is not."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "trained"
    with FileLock(f"{folder}.lock"):
        if not (folder / ".git").exists():
            train(CHECKOUT, folder)
    return Trained(folder)


@pytest.fixture(scope="session")
def served(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The model, loaded by a real server, which has replayed its golden predictions."""
    with running(trained, tmp_path_factory.mktemp("served")) as server:
        yield Served(server.url, trained.features, server.post)


def train(checkout: Path, folder: Path) -> None:
    """Copy a repository's working tree, bring the copy's pipeline up to date, and commit it.

    Args:
        checkout: The repository; only its DVC cache is written to.
        folder: The copy; it is a Git repository if and only if all went well.
    """
    shutil.rmtree(folder, ignore_errors=True)
    for name in working_tree(checkout):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(checkout / name, folder / name, follow_symlinks=False)
    cache = _run(["dvc", "cache", "dir"], checkout).strip()
    _run(["git", "init", "--quiet"], folder)  # DVC works in Git repositories only
    try:
        own_settings = folder / ".dvc" / "config.local"
        own_settings.write_text(f"[cache]\n    dir = {checkout / cache}\n")
        _run(["dvc", "checkout", "--quiet", "--allow-missing"], folder)
        _run([str(_model_environment() / "bin" / "python"), "-m", "model.check"], folder)
        _run(["dvc", "repro", "evaluate"], folder)
        commit_all(folder, "The working tree")
    except BaseException:
        shutil.rmtree(folder / ".git")
        raise


@contextlib.contextmanager
def running(trained: Trained, folder: Path) -> Iterator[Server]:
    """Serve a trained model as the target `process` would, with its own packages."""
    head = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=trained.folder, capture_output=True, text=True, check=True
    )
    package = read_package(Workspace(trained.folder, head.stdout.strip(), "HEAD"))
    python = asyncio.run(make_runtime.fn(package))
    bundle = make_bundle(
        package,
        trained.folder / package.artifact,
        python,
        folder,
        environment="tests",
        identifier="release",
    )
    port = free_port()
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            serve(python, bundle.path, port),
            cwd=folder,
            env=clean_environment() | {"PYTHONPATH": str(bundle.path)},
            stdout=log,
            stderr=log,
        )
    try:
        server = Server(process, port, folder / "log")
        server.wait_ready()
        yield server
    finally:
        process.terminate()
        process.wait(30)


def _model_environment() -> Path:
    return Path(os.environ.get("UV_PROJECT_ENVIRONMENT") or CHECKOUT / "model" / ".venv")


def _run(argv: Sequence[str], folder: Path) -> str:
    done = subprocess.run(
        argv,
        cwd=folder,
        env={
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "UV_PROJECT_ENVIRONMENT": str(_model_environment()),
            "UV_NO_SYNC": "1",
        },
        capture_output=True,
        text=True,
        timeout=TRAINING_SECONDS,
        check=False,
    )
    if done.returncode:
        pytest.fail(f"{' '.join(argv)} failed:\n{done.stdout}{done.stderr}", pytrace=False)
    return done.stdout
