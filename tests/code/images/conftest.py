"""A commit with a model that nobody has to train, a registry, and a base image in it."""

from __future__ import annotations

import hashlib
import io
import json
import platform
import re
import shutil
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tasks.core.settings import CHECKOUT
from tasks.images.build import ImageSpec
from tasks.package.package import Package, read_package
from tasks.repository.workspace import Workspace
from tests.commits import commit_all
from tests.containers import BaseImage, run_registry

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
MakePackage = Callable[..., Package]


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A registry, `host:port`."""
    with run_registry(tmp_path_factory.mktemp("registry")) as host:
        yield host


@pytest.fixture(scope="session")
def base_archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file system of a base image in which nothing can run."""
    path = tmp_path_factory.mktemp("base") / "base.tar"
    with tarfile.open(path, "w") as archive:
        entry = tarfile.TarInfo("etc/os-release")
        entry.size = 3
        archive.addfile(entry, io.BytesIO(b"ID="))
    return path


@pytest.fixture(scope="session")
def _home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which layers are kept between builds."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture(autouse=True)
def _at_home(_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLIPWAY_HOME", str(_home))


@pytest.fixture
def make_package(tmp_path_factory: pytest.TempPathFactory) -> MakePackage:
    """Commit a model, `make_package(b"its bytes")`, that requires one small package.

    Its server requires one more, which has wheels by processor: nothing of the images runs.
    """

    def make(model: bytes, **packages: str) -> Package:
        folder = tmp_path_factory.mktemp("workspace")
        shutil.copytree(
            CHECKOUT / "serving", folder / "serving", ignore=shutil.ignore_patterns("__pycache__")
        )
        lock = folder / "serving" / "uv.lock"
        lock.write_text(_require_httptools_alone(lock.read_text()))
        (folder / "model").mkdir()
        md5 = hashlib.md5(model, usedforsecurity=False).hexdigest()
        digest = {"size": len(model), "md5": md5, "sha256": hashlib.sha256(model).hexdigest()}
        texts = {
            "params.yaml": {"name": "wine"},
            "dvc.lock": {"stages": {"save": {"outs": [{"path": "model/wine", "md5": md5}]}}},
            "model/wine.mlem": {"artifacts": {"data": {"hash": md5}}},
            "model/wine.golden.json": {"inputs": [1], "outputs": {"predict": [1]}},
            "model/wine.runtime.json": {
                "python": platform.python_version(),
                "artifacts": {"model/wine": digest},
                "packages": packages or {"threadpoolctl": "3.6.0"},
            },
        }
        for name, content in texts.items():
            (folder / name).write_text(json.dumps(content))
        (folder / "model" / "wine").write_bytes(model)
        return read_package(Workspace(folder, commit_all(folder, "Model"), "main"))

    return make


@pytest.fixture
def spec(registry: str, base_archive: Path) -> ImageSpec:
    """A spec whose images are pushed to the registry."""
    BaseImage.of(base_archive, environment={"PYTHON_VERSION": f"{PYTHON}.99"}).push(
        f"{registry}/python:{PYTHON}"
    )
    return ImageSpec(
        environment="test",
        repository=f"{registry}/wine",
        base=f"{registry}/python:{{python}}",
        platforms=("linux/amd64",),
    )


def _require_httptools_alone(lock: str) -> str:
    before, name, after = lock.partition('name = "slipway-serving"')
    only = 'dependencies = [{ name = "httptools" }]'
    changed = re.sub(r"^dependencies = \[\n.*?^\]", only, after, count=1, flags=re.M | re.S)
    return f"{before}{name}{changed}"
