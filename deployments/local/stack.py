"""The local stack: S3 server, Prefect server and worker, proxy and origin, in one folder."""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import httpx
import psutil
from filelock import FileLock, Timeout

from deployments.apply import WITHOUT_AUTOMATIONS, WITHOUT_SCHEDULES
from deployments.catalogue import block_variables, prefect_yaml
from deployments.catalogue.block_variables import ObjectStorage
from deployments.local import (
    credentials,
    data,
    gateway,
    image_registry,
    object_store,
    origin,
    ports,
    postgres,
    prefect_programs,
    processes,
)
from deployments.local.ports import HOST
from deployments.local.program import Program
from deployments.local.supervisor import (
    USERNAME,
    answers,
    start_daemon,
    write_configuration,
)
from deployments.prefect_api.client import PrefectAPI
from tasks.core.commands import tail
from tasks.core.errors import SlipwayError, TransientError
from tasks.core.settings import CHECKOUT, Settings
from tasks.images.reference import parse_reference
from tasks.platforms.base.settings import HostEnvironment, ImageEnvironment
from tasks.platforms.catalogue import environment_names, load_environment, variable
from tasks.platforms.docker.settings import DockerEnvironment
from tasks.platforms.process.supervisor import Supervisor
from tasks.repository import git

if TYPE_CHECKING:
    from deployments.local.containers import ModelContainers

_SUPERVISOR_PORT = "supervisor"
_USUAL_PORTS = {
    prefect_programs.SERVER_PORT: 4200,
    object_store.S3_PORT: 8333,
    image_registry.PORT: 5000,
}
_READY_SECONDS = 120.0
_STOP_SECONDS = 30.0
_LOCK_SECONDS = 240.0
# What the programs of the stack inherit from whoever starts it, the code of models included:
# tokens and other secrets of a shell are not among it.
_INHERITED = frozenset({
    "HOME", "LANG", "LOGNAME", "PATH", "TZ", "USER", "XDG_CACHE_HOME",
    "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "SSL_CERT_DIR", "SSL_CERT_FILE",
    "ALL_PROXY", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY",
    "all_proxy", "http_proxy", "https_proxy", "no_proxy",
})  # fmt: skip
_INHERITED_PREFIXES = ("LC_", "OPENBLAS_")
# What the worker inherits beside that: its settings, and how it reaches a package index and an
# engine.
_FOR_WORKER = frozenset({
    "XDG_CONFIG_HOME", "XDG_DATA_HOME", "DOCKER_CERT_PATH", "DOCKER_HOST", "DOCKER_TLS_VERIFY",
})  # fmt: skip
_FOR_WORKER_PREFIXES = ("PIP_", "SLIPWAY_", "UV_")
# Another environment or Python is not for uv in flow runs; blocks hold the S3 credentials; the
# marker of a stack that we may be in is not ours.
_NOT_FOR_WORKER = frozenset(
    {processes.MARKER, "UV_PROJECT_ENVIRONMENT", "UV_PYTHON"} | block_variables.secret_variables()
)

Say = Callable[[str], None]
Database = Literal["sqlite", "postgres"]


class Stack:
    """One local stack; any number of them live side by side, each in its own folder.

    Args:
        home: Folder for everything the stack writes.
        checkout: The checkout whose flows the worker runs.
        source: Repository that origin is made from, if not the checkout.
        usual_ports: Whether to try well-known ports first, so that URLs are easy to remember.
        deploy_on_push: Whether a push to origin's main deploys, as it does on GitHub.
        database: What the Prefect server works on; by default what it has worked on so far.
        main_environment: Where a push to origin's main deploys to; by default where it has so far.
    """

    def __init__(
        self,
        home: Path,
        checkout: Path = CHECKOUT,
        *,
        source: Path | None = None,
        usual_ports: bool = True,
        deploy_on_push: bool = True,
        database: Database | None = None,
        main_environment: str | None = None,
    ) -> None:
        self.home = home.resolve()
        self.checkout = checkout.resolve()
        self.origin = self.home / "origin.git"
        self.logs = self.home / "log"
        self.routes = self.home / "gateway"
        self._source = source or checkout
        self._usual_ports = usual_ports
        self._deploy_on_push = deploy_on_push
        self._database = database
        self._main_environment = main_environment
        self._file = self.home / "stack.json"
        self._configuration = self.home / "supervisor" / "supervisord.conf"

    # What the stack is, once it has been up

    @property
    def credentials(self) -> credentials.Credentials:
        """The stack's secrets."""
        return credentials.load(self.home / "secrets")

    @property
    def ports(self) -> dict[str, int]:
        """The ports that the stack has chosen, by name; empty before its first start."""
        found: dict[str, int] = self._remembered().get("ports", {})
        return found

    @property
    def database(self) -> Database:
        """What the Prefect server works on; a new stack's is SQLite."""
        found: Database = self._database or self._remembered().get("database", "sqlite")
        return found

    @property
    def main_environment(self) -> str:
        """Where a push to origin's main deploys to; a new stack's is `local`."""
        found: str = self._main_environment or self._remembered().get("main_environment", "local")
        return found

    @property
    def repository(self) -> str:
        """Where images go in the stack's own registry; empty if it has none.

        It has one if main's environment pushes to loopback, and no variable names another registry.
        """
        name = self.main_environment
        settings = self._host_environments().get(name)
        if not isinstance(settings, ImageEnvironment) or variable(name, "repository") in os.environ:
            return ""
        wanted = parse_reference(settings.repository)
        port = self.ports.get(image_registry.PORT, "")
        return f"{HOST}:{port}/{wanted.repository}" if wanted.on_loopback else ""

    @property
    def prefect_api_url(self) -> str:
        """Where Prefect's REST API is."""
        return f"http://{HOST}:{self.ports[prefect_programs.SERVER_PORT]}/api"

    @property
    def prefect_ui_url(self) -> str:
        """Where Prefect's UI is."""
        return self.prefect_api_url.removesuffix("/api")

    @property
    def s3_endpoint_url(self) -> str:
        """Where the S3 server is."""
        return f"http://{HOST}:{self.ports[object_store.S3_PORT]}"

    @property
    def gateway_api_url(self) -> str:
        """Where the proxy's API is."""
        return f"http://{HOST}:{self.ports[gateway.API_PORT]}"

    @property
    def storage(self) -> ObjectStorage:
        """The bucket and its identities."""
        secrets = self.credentials
        return ObjectStorage(
            bucket=object_store.BUCKET,
            read_write=secrets.read_write,
            read=secrets.read,
            endpoint_url=self.s3_endpoint_url,
        )

    @property
    def apply_options(self) -> tuple[str, ...]:
        """How the Prefect server is to differ from one in production."""
        # Nothing is retrained by itself here, and automations lock SQLite.
        without_automations = (WITHOUT_AUTOMATIONS,) if self.database == "sqlite" else ()
        return (*without_automations, WITHOUT_SCHEDULES)

    @property
    def host_environments(self) -> tuple[str, ...]:
        """The environments that this stack serves: those on this host, since `up`."""
        return tuple(name for name in self._host_environments() if name in self.ports)

    def model_url(self, environment: str) -> str:
        """Where the live model of such an environment is, or will be."""
        return f"http://{HOST}:{self.ports[environment]}"

    @property
    def supervisor(self) -> Supervisor:
        """Remote control of the process runner."""
        url = f"http://{HOST}:{self.ports[_SUPERVISOR_PORT]}"
        return Supervisor(url, USERNAME, self.credentials.supervisor)

    def environment(self) -> dict[str, str]:
        """The variables that flow runs need, beside what they inherit.

        Returns:
            Where things are, the user's own settings, and how a package index is reached. No S3
            credentials: flows get those from blocks.
        """
        dvc = self.home / "dvc"
        loopback = f"{HOST},localhost"
        beside = os.environ.get("NO_PROXY") or os.environ.get("no_proxy")
        no_proxy = f"{loopback},{beside}" if beside else loopback
        return {
            **{
                name: value
                for name, value in _inherited(_FOR_WORKER, _FOR_WORKER_PREFIXES).items()
                if name not in _NOT_FOR_WORKER and not name.startswith(block_variables.PREFIX)
            },
            **git.IDENTITY,
            "AWS_EC2_METADATA_DISABLED": "true",
            "DO_NOT_TRACK": "1",
            "DVC_GLOBAL_CONFIG_DIR": str(dvc / "global"),
            "DVC_NO_ANALYTICS": "1",
            "DVC_SITE_CACHE_DIR": str(dvc / "site"),
            "DVC_SYSTEM_CONFIG_DIR": str(dvc / "system"),
            # The user's own settings, such as signed commits, are not for commits of flows.
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_TERMINAL_PROMPT": "0",
            "ITERATIVE_DO_NOT_TRACK": "1",
            "NO_PROXY": no_proxy,
            "no_proxy": no_proxy,
            "PATH": os.pathsep.join([str(_bin()), os.environ.get("PATH", os.defpath)]),
            "PREFECT_API_URL": self.prefect_api_url,
            "PREFECT_CLI_COLORS": "false",
            "PREFECT_HOME": str(self.home / "prefect"),
            "PREFECT_LOGGING_COLORS": "false",
            # How soon `make demo` shows a line; the default is 2 s.
            "PREFECT_LOGGING_TO_API_BATCH_INTERVAL": "0.5",
            "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "false",
            "PREFECT_WORKER_QUERY_SECONDS": "1",
            "SLIPWAY_CHECKOUT": str(self.checkout),
            "SLIPWAY_GATEWAY": str(self.routes),
            "SLIPWAY_GATEWAY_API": self.gateway_api_url,
            "SLIPWAY_HOME": str(self.home),
            "SLIPWAY_ORIGIN": str(self.origin),
            "SLIPWAY_SUPERVISOR_PASSWORD": self.credentials.supervisor,
            "SLIPWAY_SUPERVISOR_URL": self.supervisor.url,
            "SLIPWAY_SUPERVISOR_USERNAME": USERNAME,
            "TMPDIR": str(self.home / "tmp"),
            **{variable(name, "port"): str(self.ports[name]) for name in self.host_environments},
            **self._registry_variables(),
        }

    def programs(self) -> tuple[Program, ...]:
        """The programs of the stack, in the order they start."""
        database, database_url = self._database_program()
        return (
            *database,
            *self._registry_program(),
            object_store.program(_bin(), self.home / "object-store", self.ports),
            prefect_programs.server(self.checkout, self.home / "prefect", self.ports, database_url),
            gateway.program(_bin(), self.routes, self.ports, self.host_environments),
            prefect_programs.worker(self.checkout, self.environment()),
        )

    # What it can do

    def up(self, say: Say = lambda _: None) -> None:
        """Start what does not run, and bring origin and the Prefect server up to date.

        Args:
            say: Told what is being done, line by line.

        Raises:
            ConfigurationError: The checkout has no commit, a file of it is wrong, data that it
                names are nowhere, or what is asked for is not installed: PostgreSQL, a registry.
            TransientError: A program does not get ready; says the end of its log.
            TerminalError: The checkout's commits do not merge into origin's main.
        """
        if self.database == "postgres":
            postgres.find()
        if self.repository:
            image_registry.find()
        with self._locked():
            for note in origin.bring_up_to_date(self.origin, self._source):
                say(note)
            brought, missing = data.bring(self._source, self.home / "dvc-cache")
            if brought:
                say(f"objects of data brought from the checkout's DVC cache: {brought}")
            running = self._start_supervisor(say)
            for program in self.programs():
                if program.autostart and program.name not in running:
                    self.supervisor.start(program.name)
            self._wait_until_ready(say)
            self._with_containers(lambda each: each.resume(), say)
            with PrefectAPI(self.prefect_api_url) as api:
                self._apply(api, say)
                self._start_worker(api)
            self._write_file()
            self._set_hook()
            data.require(missing, self.storage)

    def down(self, say: Say = lambda _: None) -> None:
        """Stop everything that runs, whatever state it is in; data stays.

        Args:
            say: Told what is being done, line by line.
        """
        if not self.home.exists():
            return
        with self._locked():
            token = self.credentials.stack
            if self.ports and self.supervisor.alive():
                say("stopping")
                # If supervisord gives up meanwhile, what is left is ended below all the same.
                with contextlib.suppress(TransientError):
                    # The worker first: the server must still be there to be told of its runs,
                    # and so must the database until the server has ended.
                    self.supervisor.stop(prefect_programs.WORKER)
                    self.supervisor.stop(prefect_programs.SERVER)
                    self.supervisor.stop_all()
                    self.supervisor.shutdown()
                deadline = time.monotonic() + _STOP_SECONDS
                while processes.of_stack(token) and time.monotonic() < deadline:
                    if not answers(self.ports[_SUPERVISOR_PORT]):
                        break
                    time.sleep(0.1)
            processes.end(token, grace_seconds=5)
            if self.ports:
                self._with_containers(lambda each: each.stop(), say)
                object_store.remove_sockets(self.ports)
                self._write_file()

    def clean(self, say: Say = lambda _: None) -> None:
        """Stop everything, and remove what is not in the stack's folder: model containers.

        Args:
            say: Told what is being done, line by line.
        """
        self.down(say)
        if self.ports:
            self._with_containers(lambda each: each.remove(), say)

    def status(self) -> dict[str, str]:
        """What state every program is in.

        Returns:
            supervisord's word for it (`RUNNING`, `STOPPED`, `FATAL`, …) by name of the program,
            the model servers included; all `STOPPED` if the process runner does not run.
        """
        if not self.ports or not self.supervisor.alive():
            database = [postgres.NAME] if self.database == "postgres" else []
            images = [image_registry.NAME] if self.repository else []
            return dict.fromkeys([*database, *images, *_PROGRAM_NAMES], "STOPPED")
        return {
            name: str(program["statename"]) for name, program in self.supervisor.programs().items()
        }

    def memory(self) -> int:
        """How many bytes of memory all processes of the stack share out among them."""
        total = 0
        for process in processes.of_stack(self.credentials.stack):
            with contextlib.suppress(psutil.Error):
                # Proportional where the system tells: pages that two processes share count once.
                full = process.memory_full_info()
                total += getattr(full, "pss", 0) or full.rss
        return total

    # How it does it

    def _remembered(self) -> dict[str, Any]:
        """What `stack.json` says."""
        try:
            found: dict[str, Any] = json.loads(self._file.read_text())
        except (OSError, ValueError):
            return {}
        return found

    def _database_program(self) -> tuple[tuple[Program, ...], str | None]:
        """PostgreSQL and its URL, where it is what the Prefect server works on."""
        if self.database == "sqlite":
            return (), None
        password, folder = self.credentials.database, self.home / "postgres"
        program = postgres.program(self.checkout, postgres.find(), folder, self.ports, password)
        return (program,), postgres.connection_url(self.ports, password)

    def _registry_program(self) -> tuple[Program, ...]:
        if not self.repository:
            return ()
        return (
            image_registry.program(
                image_registry.find(), self.home / image_registry.NAME, self.ports
            ),
        )

    def _registry_variables(self) -> dict[str, str]:
        where = self.repository
        return {variable(self.main_environment, "repository"): where} if where else {}

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        self.home.mkdir(parents=True, exist_ok=True)
        self.home.chmod(0o700)  # there are secrets, databases and sockets in it
        try:
            with FileLock(self.home / "stack.lock", timeout=_LOCK_SECONDS):
                yield
        except Timeout as error:
            raise TransientError(
                f"another command has been busy with {self.home} for {_LOCK_SECONDS:.0f} s",
                state="it goes on",
                next_step="wait for it, or end it, and run the same command again",
            ) from error

    def _start_supervisor(self, say: Say) -> set[str]:
        """Make supervisord run with the configuration of now; return what runs already."""
        alive = bool(self.ports) and self.supervisor.alive()
        if alive:
            states = self.supervisor.programs()
            running = {n for n, program in states.items() if program["statename"] == "RUNNING"}
        else:
            running = set()
            if orphans := processes.end(self.credentials.stack, grace_seconds=5):
                say(f"ended {orphans} processes that an earlier stack left behind")
            shutil.rmtree(self.home / "tmp", ignore_errors=True)
        self._choose_ports(running, alive=alive)
        before = self._configuration.read_text() if alive else ""
        self._write_files()
        if alive:
            names = [postgres.NAME, image_registry.NAME, *_PROGRAM_NAMES]
            # A worker that stops takes its flow runs with it; another PATH is no reason for that.
            if self._runs_flows():
                names.remove(prefect_programs.WORKER)
                if self._configuration.read_text() != before:
                    say("flow runs are under way: the worker keeps its settings until the next up")
            running -= set(self.supervisor.reload(names))
        else:
            say("starting")
            start_daemon(self._configuration, self._base_environment())
            self._wait_for_supervisor()
        return running

    def _runs_flows(self) -> bool:
        """Whether the worker is executing a flow run."""
        for process in processes.of_stack(self.credentials.stack):
            with contextlib.suppress(psutil.Error):
                if "prefect.engine" in process.cmdline():
                    return True
        return False

    def _choose_ports(self, running: set[str], *, alive: bool) -> None:
        remembered = self.ports
        environments = self._host_environments()
        preferred = {
            **_USUAL_PORTS,
            **{name: environment.port for name, environment in environments.items()},
        }
        names = [
            _SUPERVISOR_PORT,
            prefect_programs.SERVER_PORT,
            *object_store.PORTS,
            gateway.API_PORT,
            *([postgres.PORT] if self.database == "postgres" else []),
            *([image_registry.PORT] if self.repository else []),
            *environments,
        ]

        def choose(names: Iterable[str], keep: Mapping[str, int]) -> dict[str, int]:
            usual = preferred if self._usual_ports else {}
            wanted = {
                name: [port for port in (remembered.get(name), usual.get(name)) if port]
                for name in names
            }
            return ports.choose(wanted, keep=keep, companions=object_store.COMPANIONS)

        in_use: set[str] = set()
        if alive:
            # What is new since the start needs a port before the programs can be described.
            new = [name for name in names if name not in remembered]
            self._write_file({**remembered, **choose(new, keep=remembered)})
            in_use = {_SUPERVISOR_PORT}.union(
                *(each.ports for each in self.programs() if each.name in running)
            )
        keep = {name: remembered[name] for name in names if name in in_use and name in remembered}
        self._write_file(choose(names, keep))

    def _write_files(self) -> None:
        for folder in (self.logs, self.routes, self.home / "prefect", self.home / "tmp"):
            folder.mkdir(parents=True, exist_ok=True)
        object_store.prepare(self.home / "object-store", self.credentials)
        if self.repository:
            image_registry.prepare(self.home / image_registry.NAME, self.ports)
        write_configuration(
            self._configuration,
            port=self.ports[_SUPERVISOR_PORT],
            password=self.credentials.supervisor,
            logs=self.logs,
            programs=self.programs(),
        )

    def _base_environment(self) -> dict[str, str]:
        """What every program of the stack inherits, the model servers too: nothing secret."""
        return {
            **_inherited(_INHERITED, _INHERITED_PREFIXES),
            processes.MARKER: self.credentials.stack,
            "DO_NOT_TRACK": "1",
            "PYTHONUNBUFFERED": "1",
            "TMPDIR": str(self.home / "tmp"),
        }

    def _wait_for_supervisor(self) -> None:
        deadline = time.monotonic() + _STOP_SECONDS
        while not self.supervisor.alive():
            if time.monotonic() > deadline:
                log = self.logs / "supervisord.log"
                raise TransientError(
                    f"supervisord does not answer; the end of {log}:\n{tail(log, 15)}",
                    state="nothing else was started",
                    next_step="make down, then run the same command again",
                )
            time.sleep(0.05)

    def _wait_until_ready(self, say: Say) -> None:
        waiting = [program for program in self.programs() if program.health]
        deadline = time.monotonic() + _READY_SECONDS
        with httpx.Client(trust_env=False, timeout=2) as client:
            while waiting:
                states = self.supervisor.programs()
                for program in list(waiting):
                    if _is_healthy(client, program):
                        waiting.remove(program)
                    elif states[program.name]["statename"] == "FATAL" or (
                        time.monotonic() > deadline
                    ):
                        raise self._failure(program)
                time.sleep(0.1 if waiting else 0)
        say(f"S3 server, Prefect server (on {self.database}) and proxy are ready")

    def _failure(self, program: Program) -> SlipwayError:
        log = self.logs / f"{program.name}.log"
        return TransientError(
            f"{program.name} does not get ready; the end of {log}:\n{tail(log, 15)}",
            state="the other programs of the stack run",
            next_step="make down, then run the same command again",
        )

    def _apply(self, api: PrefectAPI, say: Say) -> None:
        """Give the Prefect server what the checkout declares, unless it has it."""
        environment = {
            **self._base_environment(),
            **self.environment(),
            **_inherited(block_variables.secret_variables(), ()),
            **self.storage.to_environment(),
        }
        expected = prefect_yaml.digest(self.checkout, environment, self.apply_options)
        if prefect_yaml.is_registered(api, prefect_yaml.Manifest.read(self.checkout), expected):
            return
        without = WITHOUT_AUTOMATIONS in self.apply_options
        say(
            "registering blocks and deployments"
            + (", no automations: they need DB=postgres" if without else ", automations")
        )
        log = self.logs / "apply.log"
        # What is meant for another server is not read from a file here.
        command = [
            "-m",
            "deployments.cli",
            f"--env-file={os.devnull}",
            "apply",
            *self.apply_options,
        ]
        with log.open("w") as output:
            result = subprocess.run(
                [sys.executable, *command, *self.apply_options],
                cwd=self.checkout,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                timeout=_READY_SECONDS,
                check=False,
            )
        if result.returncode:
            raise TransientError(
                f"registering with Prefect failed; the end of {log}:\n{tail(log, 30)}",
                state="the servers run; some deployments may be missing",
                next_step="mend what it complains about and run the same command again",
            )
        prefect_yaml.mark_registered(api, expected)

    def _start_worker(self, api: PrefectAPI) -> None:
        name = prefect_programs.WORKER
        if self.supervisor.programs()[name]["statename"] in {"RUNNING", "STARTING"}:
            return
        started = datetime.datetime.now(datetime.UTC)
        self.supervisor.start(name)
        deadline = time.monotonic() + _READY_SECONDS
        while (seen := api.last_heartbeat(prefect_programs.WORK_POOL)) is None or seen < started:
            state = self.supervisor.programs()[name]["statename"]
            if state == "FATAL" or time.monotonic() > deadline:
                raise self._failure(self.programs()[-1])
            time.sleep(0.2)

    def _with_containers(self, deed: Callable[[ModelContainers], None], say: Say) -> None:
        """Do something with the model servers in containers of every environment that has some."""
        try:
            for name, environment in self._host_environments().items():
                # By its lock: a deploy that was killed may have left a container and no route.
                deployed = (Settings(home=self.home).locks / f"{name}.lock").exists()
                if deployed and isinstance(environment, DockerEnvironment):
                    from deployments.local.containers import ModelContainers

                    deed(ModelContainers(environment, self.routes, self.gateway_api_url))
        except SlipwayError as error:
            say(f"the model's container is as it was: {error.what}")

    def _set_hook(self) -> None:
        if self._deploy_on_push:
            origin.deploy_on_push(
                self.origin,
                self.checkout,
                home=self.home,
                marker=f"{processes.MARKER}={self.credentials.stack}",
                log=self.logs / "post-receive.log",
            )
        else:
            origin.ignore_pushes(self.origin)

    def _host_environments(self) -> dict[str, HostEnvironment]:
        found = {name: load_environment(name) for name in environment_names()}
        return {name: each for name, each in found.items() if isinstance(each, HostEnvironment)}

    def _write_file(self, chosen: Mapping[str, int] | None = None) -> None:
        """Write `stack.json`: where everything is, and no secret."""
        chosen = dict(chosen or self.ports)
        remembered = {
            "ports": chosen,
            "database": self.database,
            "main_environment": self.main_environment,
        }
        _replace(self._file, remembered)
        states = self.supervisor.programs() if self.supervisor.alive() else {}
        description: dict[str, Any] = {
            **remembered,
            "prefect_api_url": self.prefect_api_url,
            "prefect_ui_url": self.prefect_ui_url,
            "s3_endpoint_url": self.s3_endpoint_url,
            "bucket": object_store.BUCKET,
            "origin": str(self.origin),
            "models": {name: self.model_url(name) for name in self.host_environments},
            "supervisor_url": self.supervisor.url,
            "gateway_api_url": self.gateway_api_url,
            "pids": {name: each["pid"] for name, each in states.items() if each["pid"]},
        }
        _replace(self._file, description)


_PROGRAM_NAMES = (
    object_store.NAME,
    prefect_programs.SERVER,
    "gateway",
    prefect_programs.WORKER,
)


def _replace(path: Path, value: Mapping[str, Any]) -> None:
    draft = path.with_suffix(".draft")
    draft.write_text(json.dumps(value, indent=2) + "\n")
    draft.replace(path)


def _inherited(names: Collection[str], prefixes: tuple[str, ...]) -> dict[str, str]:
    """The variables of this process with one of these names or beginnings of names."""
    return {
        name: value
        for name, value in os.environ.items()
        if name in names or name.startswith(prefixes)
    }


def _bin() -> Path:
    """Where the programs of the orchestrator environment are."""
    return Path(sys.executable).parent


def _is_healthy(client: httpx.Client, program: Program) -> bool:
    url = httpx.URL(program.health or "")
    if url.scheme == "tcp":
        return url.port is not None and answers(url.port)
    try:
        return client.get(url).is_success
    except httpx.HTTPError:
        return False
