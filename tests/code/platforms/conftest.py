"""Targets without a flow around them: a proxy, supervisord, an engine, a registry, and commits."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml
from filelock import FileLock

from deployments.local import gateway
from deployments.local.supervisor import start_daemon, write_configuration
from tasks.core.settings import CHECKOUT
from tasks.package.bundle import Bundle
from tasks.package.package import Package, read_package
from tasks.package.runtime import make_runtime
from tasks.platforms.base.prediction_log import LogSettings
from tasks.platforms.base.settings import CloudEnvironment
from tasks.platforms.base.trial import boot
from tasks.platforms.catalogue import PLATFORMS
from tasks.platforms.docker.settings import DockerEnvironment
from tasks.platforms.process.settings import ProcessEnvironment
from tasks.platforms.process.supervisor import Supervisor
from tasks.repository.workspace import Workspace
from tests.code.light_model import write_light_model
from tests.code.platforms.fly_place import FlyioPlace, running_fly
from tests.code.platforms.heroku_place import HerokuPlace, running_heroku
from tests.code.platforms.kubernetes_place import OWN_CLUSTER, own_kubernetes, running_kubernetes
from tests.code.platforms.places import DockerPlace, Place, ProcessPlace, RemotePlace
from tests.code.platforms.sagemaker_place import SageMakerPlace, running_sagemaker
from tests.commits import commit_all
from tests.containers import (
    BaseImage,
    debian_with_python,
    end_with,
    free_port,
    run_engine,
    run_registry,
    wait_for_answer,
    wait_for_port,
)
from tests.stand_ins.front import Front, run_front
from tests.template import OVERLAY

Change = Callable[[str], str]
# Platforms that the worker only reaches through their APIs.
ELSEWHERE = [
    name
    for name, platform in PLATFORMS.items()
    if issubclass(platform.load_settings(), CloudEnvironment)
]
_PASSWORD = "no-secret"
_SAVE = {"cmd": "true"}  # the stage that saves a model; nobody runs it here


def _once_each() -> Callable[[Bundle, float, Mapping[str, str]], Awaitable[None]]:
    """Make a trial that boots each package once: one that has passed would pass again."""
    passed: set[str] = set()

    async def boot_once(bundle: Bundle, within: float, variables: Mapping[str, str]) -> None:
        if bundle.package.commit not in passed:
            await boot(bundle, within, variables)
            passed.add(bundle.package.commit)

    return boot_once


@pytest.fixture(scope="session")
def home(make_home: Callable[[str], Path], layers: Path) -> Path:
    """The folder to which the targets write."""
    home = make_home("home")
    (home / "layers").symlink_to(layers)
    return home


@pytest.fixture(scope="session")
def ports() -> dict[str, int]:
    """The port of each environment, and of the proxy's API."""
    return {name: free_port() for name in ("process", "docker", gateway.API_PORT)}


@pytest.fixture(scope="session")
def host(home: Path, ports: dict[str, int]) -> Iterator[Supervisor]:
    """The proxy and supervisord, as the local stack starts them; the variables say where."""
    routes, logs = home / "routes", home / "log"
    for folder in (routes, logs):
        folder.mkdir()
    supervisor_port = free_port()
    configuration = home / "supervisor" / "supervisord.conf"
    configuration.parent.mkdir()
    write_configuration(
        configuration, port=supervisor_port, password=_PASSWORD, logs=logs, programs=[]
    )
    supervisor = Supervisor(f"http://127.0.0.1:{supervisor_port}", "slipway", _PASSWORD)
    variables = {
        "SLIPWAY_HOME": str(home),
        "SLIPWAY_GATEWAY": str(routes),
        "SLIPWAY_GATEWAY_API": f"http://127.0.0.1:{ports[gateway.API_PORT]}",
        "SLIPWAY_SUPERVISOR_URL": supervisor.url,
        "SLIPWAY_SUPERVISOR_USERNAME": "slipway",
        "SLIPWAY_SUPERVISOR_PASSWORD": _PASSWORD,
    }
    proxy = gateway.program(CHECKOUT / ".venv" / "bin", routes, ports, ("process", "docker"))
    with pytest.MonkeyPatch.context() as patch, ExitStack() as opened:
        for name, value in variables.items():
            patch.setenv(name, value)
        # Outside of a flow a task would start a Prefect server; what it does is the same without.
        patch.setattr("tasks.package.server.make_runtime", make_runtime.fn)
        patch.setattr("tasks.platforms.base.cloud_target.boot", _once_each())
        start_daemon(configuration, dict(os.environ))
        opened.callback(supervisor.shutdown)
        with (home / "proxy.log").open("wb") as log:
            process = subprocess.Popen(proxy.argv, stdout=log, stderr=log)
        opened.enter_context(end_with(process))
        wait_for_port(ports[gateway.API_PORT], process, home / "proxy.log")
        # It listens a moment before it serves its API, and says 404 until then.
        wait_for_answer(f"{variables['SLIPWAY_GATEWAY_API']}/api/entrypoints/process", process)
        yield supervisor


@pytest.fixture(scope="session")
def light_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The four files of the light model that takes arrays: its image has no pandas."""
    folder = tmp_path_factory.mktemp("light") / "wine"
    write_light_model(folder, "wine", arrays=True)
    return folder


@pytest.fixture(scope="session")
def make_package(
    tmp_path_factory: pytest.TempPathFactory, light_model: Path
) -> Callable[..., Package]:
    """Commit a model: `make_package("two")`, or with changes of files by path.

    With `after`, the commit comes after that of another package, in a copy of its repository.
    With `saved`, it is the model that lies in that folder instead of the light one.
    """

    def make(
        name: str, *, after: Package | None = None, saved: Path = light_model, **changes: Change
    ) -> Package:
        folder = tmp_path_factory.mktemp(name)
        if after:
            shutil.copytree(after.workspace.path / ".git", folder / ".git")
        shutil.copytree(
            CHECKOUT / "serving", folder / "serving", ignore=shutil.ignore_patterns("__pycache__")
        )
        model = folder / "model" / "wine"
        model.parent.mkdir()
        # What follows the end of a pickle is not read: another model that predicts the same.
        content = (saved / "wine").read_bytes() + name.encode()
        model.write_bytes(content)
        md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
        digest = {
            "size": len(content), "md5": md5, "sha256": hashlib.sha256(content).hexdigest()
        }  # fmt: skip
        runtime = json.loads((saved / "wine.runtime.json").read_text())
        runtime["artifacts"]["model/wine"] = digest
        mlem = yaml.safe_load((saved / "wine.mlem").read_text())
        mlem["artifacts"]["data"].update(hash=md5, size=len(content))
        written: dict[str, Any] = {
            "params.yaml": json.dumps({"name": "wine"}),
            "dvc.yaml": json.dumps({"stages": {"save": _SAVE | {"outs": ["model/wine"]}}}),
            "dvc.lock": json.dumps(
                {
                    "schema": "2.0",
                    "stages": {
                        "save": _SAVE
                        | {"outs": [{"path": "model/wine", "hash": "md5", "md5": md5}]}
                    },
                }
            ),
            ".dvc/config": (OVERLAY / ".dvc" / "config").read_text(),
            "model/wine.mlem": yaml.safe_dump(mlem),
            "model/wine.golden.json": (saved / "wine.golden.json").read_text(),
            "model/wine.runtime.json": json.dumps(runtime),
        }
        for path, text in written.items():
            (folder / path).parent.mkdir(exist_ok=True)
            (folder / path).write_text(text)
        for path, change in changes.items():
            file = folder / path
            file.write_text(change(file.read_text()))
        return read_package(Workspace(folder, commit_all(folder, name), "main"))

    return make


@pytest.fixture(scope="session")
def models(make_package: Callable[..., Package]) -> list[Package]:
    """Three models that can be live."""
    return [make_package(name) for name in ("one", "two", "three")]


@pytest.fixture
def paper(tmp_path: Path) -> Package:
    """A model that nobody can load, in no repository."""
    return Package(
        workspace=Workspace(tmp_path, "0" * 40, "main"),
        model="wine",
        commit="0" * 40,
        md5="0" * 32,
        sha256="",
        size=0,
        python="3.11.0",
        packages={},
        golden={"inputs": [{"a": 1}], "outputs": {"predict": [1]}},
        serving="",
    )


@pytest.fixture(scope="session")
def process_place(host: Supervisor, home: Path, ports: dict[str, int]) -> Place:
    """A place for the process target."""
    environment = ProcessEnvironment(
        name="process",
        target="process",
        port=ports["process"],
        soak_seconds=0.3,
        keep=2,
        log=LogSettings(seconds=1),
    )
    return ProcessPlace(environment, host, home)


@pytest.fixture(scope="session")
def engine(shared: Path) -> Iterator[str]:
    """URL of a Docker engine."""
    with run_engine(shared) as url:
        yield url


@pytest.fixture(scope="session")
def based_registry(shared: Path, models: list[Package]) -> Path:
    """A folder in which a registry has stored a base image for the models, of all workers."""
    folder, python = shared / "registry", models[0].minor_python
    with FileLock(folder.with_suffix(".lock")):
        if not folder.exists():
            partial = shared / "partial-registry"
            partial.mkdir()
            archive = debian_with_python(shared / "debian.tar", python)
            base = BaseImage.of(archive, environment={"PATH": "/usr/bin:/bin"})
            with run_registry(partial) as host:
                base.push(f"{host}/python:{python}-slim")
            partial.rename(folder)
    return folder


@pytest.fixture(scope="session")
def registry_folder(based_registry: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which the registry stores images; it begins with the base image."""
    folder = tmp_path_factory.mktemp("registry")
    # A registry only adds and removes files.
    shutil.copytree(based_registry / "data", folder / "data", copy_function=os.link)
    return folder


@pytest.fixture(scope="session")
def registry(registry_folder: Path) -> Iterator[str]:
    """A registry with a base image for the models: `host:port`."""
    with run_registry(registry_folder) as host:
        yield host


@pytest.fixture(scope="session")
def docker_place(
    host: Supervisor, ports: dict[str, int], engine: str, registry: str
) -> Iterator[Place]:
    """A place for the docker target."""
    environment = DockerEnvironment(
        name="docker",
        target="docker",
        port=ports["docker"],
        soak_seconds=0.3,
        keep=2,
        engine=engine,
        repository=f"{registry}/wine",
        base=f"{registry}/python:{{python}}-slim",
        log=LogSettings(seconds=1),
    )
    place = DockerPlace(environment)
    yield place
    place.clear()


@pytest.fixture(scope="session")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    """A platform's own proxy that leads nowhere, for tests that release nothing."""
    with run_front(tmp_path_factory.mktemp("front")) as front:
        yield front


@pytest.fixture(scope="session")
def flyio_place(
    host: Supervisor,
    engine: str,
    registry: str,
    registry_folder: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[FlyioPlace]:
    """A place for the flyio target."""
    with running_fly(tmp_path_factory.mktemp("fly"), engine, registry, registry_folder) as place:
        yield place


@pytest.fixture(scope="session")
def sagemaker_place(host: Supervisor, engine: str, registry: str) -> Iterator[SageMakerPlace]:
    """A place for the sagemaker target."""
    with running_sagemaker(engine, registry) as place:
        yield place


@pytest.fixture(scope="session")
def heroku_place(
    host: Supervisor, engine: str, registry: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[HerokuPlace]:
    """A place for the heroku target."""
    with running_heroku(tmp_path_factory.mktemp("heroku"), engine, registry) as place:
        yield place


@pytest.fixture(scope="session")
def kubernetes_place(
    host: Supervisor, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RemotePlace]:
    """A place for the kubernetes target: the stand-in, or a cluster of one's own."""
    if OWN_CLUSTER:
        with own_kubernetes() as place:
            yield place
    else:
        engine, registry = map(request.getfixturevalue, ("engine", "registry"))
        folder = tmp_path_factory.mktemp("kubernetes")
        with running_kubernetes(folder, engine, registry) as place:
            yield place


@pytest.fixture(params=[*(name for name in PLATFORMS if name not in ELSEWHERE), *ELSEWHERE])
def place(request: pytest.FixtureRequest) -> Place:
    """Each platform of the catalogue in turn, from its fixture `<name>_place`."""
    place = request.getfixturevalue(f"{request.param}_place")
    assert isinstance(place, Place)
    return place


@pytest.fixture(params=ELSEWHERE)
def remote_place(request: pytest.FixtureRequest) -> RemotePlace:
    """Each platform elsewhere in turn."""
    place = request.getfixturevalue(f"{request.param}_place")
    assert isinstance(place, RemotePlace)
    return place
