"""The repository's own model, trained and served: the fixtures of `tests/model` and `tests/data`.

The pipeline runs in a copy of the working tree, uncommitted work included, so that tests change
nothing in the checkout; only DVC's cache is shared with it, so that what has been made is not made
again.
"""

from __future__ import annotations

import asyncio
import contextlib
import csv
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from ruamel.yaml import YAML

from tasks.core.settings import CHECKOUT
from tasks.package.bundle import make_bundle
from tasks.package.package import read_package
from tasks.package.runtime import make_runtime
from tasks.package.server import serve
from tasks.repository.workspace import Workspace
from tests.code.serving.running import Server, clean_environment, free_port
from tests.commits import commit_all
from tests.template import working_tree

_PARSERS: Mapping[str, Callable[[str], Any]] = {
    "float64": float,
    "int64": int,
    "bool": lambda text: text == "True",
    "boolean": lambda text: text == "True",
    "object": str,
}
_BATCH = 1000  # rows a request; a server refuses more than 10,000
TRAINING_SECONDS = 4 * 3600.0  # as long as the flows allow by default


@dataclass(frozen=True)
class Trained:
    """The model that the pipeline makes of the working tree: its files, read.

    Attributes:
        folder: A copy of the repository in which the pipeline is up to date.
    """

    folder: Path

    @cached_property
    def params(self) -> dict[str, Any]:
        """All of `params.yaml`, without defaults for what it leaves out."""
        return dict(YAML(typ="safe").load(self.folder / "params.yaml"))

    @property
    def name(self) -> str:
        """Name of the model."""
        return str(self.params["name"])

    @property
    def target(self) -> str:
        """Name of the column to predict."""
        return str(self.params["data"]["target"])

    @property
    def is_classification(self) -> bool:
        """True if the target is a class, not a quantity."""
        return bool(self.params["data"]["task"] == "classification")

    @property
    def features(self) -> list[str]:
        """Names of the columns to learn from."""
        return list(self.data["columns"])

    @cached_property
    def data(self) -> dict[str, Any]:
        """`reports/data.json`: rows, target, types of the columns."""
        return dict(self._json("reports/data.json"))

    @cached_property
    def metrics(self) -> dict[str, float]:
        """`reports/metrics.json`: the scores on the test split."""
        return dict(self._json("reports/metrics.json"))

    @cached_property
    def golden(self) -> dict[str, Any]:
        """The golden predictions: `inputs` by row, `outputs` by method."""
        return dict(self._json(f"model/{self.name}.golden.json"))

    @cached_property
    def mlem(self) -> dict[str, Any]:
        """MLEM's description of the model."""
        return dict(YAML(typ="safe").load(self.folder / f"model/{self.name}.mlem"))

    def rows(self, split: str) -> list[dict[str, Any]]:
        """Read a split, `train` or `test`.

        Returns:
            Rows with the target, values in the types of training, None where one is missing.
        """
        types = {name: column["dtype"] for name, column in self.data["columns"].items()}
        types[self.target] = self.data["target"]["dtype"]
        with (self.folder / f"data/{split}.csv").open(newline="", encoding="utf-8") as file:
            return [
                {
                    name: None if text == "" else _PARSERS[types[name]](text)
                    for name, text in row.items()
                    if name in types  # also there: weights, and columns of the split
                }
                for row in csv.DictReader(file)
            ]

    def _json(self, path: str) -> Any:
        return json.loads((self.folder / path).read_text(encoding="utf-8"))


class Served:
    """The saved model behind its real server, on the packages that it is deployed with."""

    def __init__(self, server: Server, features: Sequence[str]) -> None:
        self.url = server.url
        self._server = server
        self._features = features

    def predict(self, rows: Sequence[Mapping[str, Any]]) -> list[Any]:
        """Predict rows; other columns in them, such as the target, are left out."""
        return self.ask("predict", rows)

    def predict_proba(self, rows: Sequence[Mapping[str, Any]]) -> list[list[float]]:
        """Predict the probability of each class."""
        return self.ask("predict_proba", rows)

    def ask(self, method: str, rows: Sequence[Mapping[str, Any]]) -> list[Any]:
        """Have a method of the model predict rows."""
        answers: list[Any] = []
        for at in range(0, len(rows), _BATCH):
            values = [
                {name: row[name] for name in self._features} for row in rows[at : at + _BATCH]
            ]
            response = self._server.post(f"/{method}", {"data": {"values": values}})
            assert response.status_code == 200, response.text
            answers += response.json()
        return answers


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
        yield Served(server, trained.features)


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
