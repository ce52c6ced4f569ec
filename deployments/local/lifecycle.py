"""Bringing a stack up and down, step by step; no two commands do it at the same time."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from filelock import FileLock, Timeout

from deployments.local import (
    adoption,
    client_settings,
    credentials,
    data,
    image_registry,
    object_store,
    origin,
    ports,
    postgres,
    prefect_programs,
    processes,
    readiness,
    registration,
    signing,
    state_file,
)
from deployments.local.credentials import Credentials
from deployments.local.dvc_config import write_dvc_config
from deployments.local.layout import Layout
from deployments.local.programs import choose_ports, ports_of, program_names, stack_programs
from deployments.local.supervisor import (
    LOG_ROTATION,
    SUPERVISOR_PORT,
    USERNAME,
    listens,
    start_daemon,
    write_configuration,
)
from deployments.local.worker_environment import base_environment
from deployments.prefect_api.client import PrefectAPI
from deployments.prefect_api.server_auth import basic
from tasks.core.errors import SlipwayError, TransientError
from tasks.core.settings import Settings
from tasks.platforms.docker.settings import DockerEnvironment
from tasks.platforms.process.supervisor import Supervisor

# How long supervisord may take to stop everything before its processes are ended one by one.
_STOP_SECONDS = 30.0
# As long as a first start may take, twice: whoever waits comes to its turn.
_LOCK_SECONDS = 240.0
_RUNNING = "RUNNING"

Log = Callable[[str], None]
ReadLayout = Callable[[], Layout]


@dataclass(frozen=True)
class Options:
    """The options of a start.

    Attributes:
        source: Repository that origin is made from.
        usual_ports: Whether to try well-known ports first, so that URLs are easy to remember.
        deploy_on_push: Whether a push to origin's main deploys, as it does on a Git host.
    """

    source: Path
    usual_ports: bool = True
    deploy_on_push: bool = True


def bring_up(read_layout: ReadLayout, options: Options, log: Log) -> None:
    """Start what does not run, and bring origin and the Prefect server up to date.

    Args:
        read_layout: Reads the stack, as its last start left it.
        options: How it is brought up.
        log: Receives a line on every step.

    Raises:
        ConfigurationError: The checkout has no commit, a file of it is wrong, data that it
            names are nowhere, or a program that the stack needs is not installed.
        TransientError: A program does not get ready; has the end of its log.
        TerminalError: The checkout's commits do not merge into origin's main.
    """
    layout = read_layout()
    postgres.find_programs()
    if layout.has_image_registry:
        image_registry.find_program()
    with _locked(layout.home):
        layout = read_layout()  # as the command left it that this one has waited for
        secrets = credentials.load(layout.home / "secrets")
        for note in origin.bring_up_to_date(layout.origin, options.source):
            log(note)
        copied, missing = data.copy_objects(options.source, layout.home / "dvc-cache")
        if copied:
            log(f"{copied} objects of data copied from the checkout's DVC cache")
        layout = _start_programs(layout, secrets, options, log)
        supervisor = connect(layout, secrets)
        programs = stack_programs(layout, secrets)
        readiness.wait_until_ready(programs, supervisor, layout.logs)
        ports.release(str(layout.home))
        log("database, S3 server, Prefect server and proxy are ready")
        _change_containers(layout, "resume", log)
        with open_api(layout, secrets) as api:
            registration.register(api, layout, secrets, log)
            _start_worker(api, supervisor, layout)
        state_file.write_description(layout, adoption.running_programs(layout.logs))
        _set_hook(layout, secrets, options)
        client_settings.write_settings(layout, secrets, log)
        write_dvc_config(layout.home, layout.storage(secrets))
        data.require_in_bucket(missing, layout.storage(secrets))


def take_down(read_layout: ReadLayout, log: Log) -> None:
    """Stop everything that runs, whatever state it is in; data stays.

    Args:
        read_layout: Reads the stack, as its last start left it; one that has never been up is left
            alone.
        log: Receives a line on every step.
    """
    layout = read_layout()
    if not layout.home.exists():
        return
    with _locked(layout.home):
        layout = read_layout()  # as the command left it that this one has waited for
        secrets = credentials.load(layout.home / "secrets")
        if layout.ports:
            _stop_programs(connect(layout, secrets), layout, secrets, log)
        processes.end(secrets.stack, grace_seconds=adoption.GRACE_SECONDS)
        postgres.remove_copy(layout.database)
        client_settings.remove_settings(layout)
        if layout.ports:
            _change_containers(layout, "stop", log)
            object_store.remove_sockets(layout.ports)
            state_file.write_description(layout, {})


def remove_containers(layout: Layout, log: Log) -> None:
    """Remove what a stack that is down has outside of its folder: model containers."""
    if layout.ports:
        _change_containers(layout, "remove", log)


def open_api(layout: Layout, secrets: Credentials) -> PrefectAPI:
    """Return a client of a stack's Prefect server."""
    return PrefectAPI(layout.prefect_api_url, basic(secrets.prefect))


def connect(layout: Layout, secrets: Credentials) -> Supervisor:
    """Return the remote control of a stack's supervisord."""
    return Supervisor(layout.supervisor_url, USERNAME, secrets.supervisor)


@contextlib.contextmanager
def _locked(home: Path) -> Iterator[None]:
    home.mkdir(parents=True, exist_ok=True)
    home.chmod(0o700)  # there are secrets, databases and sockets in it
    try:
        with FileLock(home / "stack.lock", timeout=_LOCK_SECONDS):
            yield
    except Timeout as error:
        raise TransientError(
            f"another command has been busy with {home} for {_LOCK_SECONDS:.0f} s",
            state="it goes on",
            next_step="wait for it, or end it, and run the same command again",
        ) from error


def _start_programs(layout: Layout, secrets: Credentials, options: Options, log: Log) -> Layout:
    """Make supervisord run the programs of now; return the layout with the ports of now."""
    alive = bool(layout.ports) and connect(layout, secrets).alive()
    orphans = {} if alive else adoption.end_leftovers(layout, secrets.stack, log)
    running = _running(connect(layout, secrets)) if alive else {*orphans}
    in_use = {SUPERVISOR_PORT} if alive else set()
    in_use = in_use.union(*(ports_of(name, layout) for name in running))
    layout = layout.with_ports(choose_ports(layout, in_use=in_use, usual=options.usual_ports))
    if not alive:
        programs = stack_programs(layout, secrets)
        running = adoption.adopt_programs(layout, programs, orphans, secrets.stack, log)
    state_file.write_ports(layout)
    if note := postgres.explain_fresh_start(layout.database, layout.prefect_home):
        log(note)
    _write_files(layout, secrets)
    supervisor = connect(layout, secrets)
    if alive:
        running -= _reload(supervisor, layout, secrets, log)
    else:
        log("starting")
        start_daemon(layout.supervisor_configuration, base_environment(layout, secrets))
        readiness.wait_for_supervisor(supervisor, layout.logs)
        if prefect_programs.WORKER in running:
            supervisor.start(prefect_programs.WORKER)
    for program in stack_programs(layout, secrets):
        if program.autostart and program.name not in running:
            supervisor.start(program.name)
    return layout


def _reload(supervisor: Supervisor, layout: Layout, secrets: Credentials, log: Log) -> set[str]:
    """Make a living supervisord take over changed programs; return those it has stopped for it."""
    # A registry that the stack no longer needs must go, too.
    names = list(dict.fromkeys([LOG_ROTATION, image_registry.NAME, *program_names(layout)]))
    # A worker that stops takes its flow runs with it; another PATH is no reason for that.
    keep = [prefect_programs.WORKER] if adoption.runs_flows(secrets.stack) else []
    reload = supervisor.reload(names, keep=keep)
    if reload.outdated:
        log("flow runs are under way: the worker keeps its settings until an up after their end")
    return set(reload.restarted)


def _running(supervisor: Supervisor) -> set[str]:
    states = supervisor.programs()
    return {name for name, program in states.items() if program["statename"] == _RUNNING}


def _write_files(layout: Layout, secrets: Credentials) -> None:
    """Write what the programs read at their start."""
    for folder in (layout.logs, layout.routes, layout.prefect_home, layout.temporary):
        folder.mkdir(parents=True, exist_ok=True)
    object_store.prepare(layout.objects, secrets)
    signing.prepare(layout.home)
    if layout.has_image_registry:
        image_registry.prepare(layout.images, layout.ports)
    write_configuration(
        layout.supervisor_configuration,
        port=layout.ports[SUPERVISOR_PORT],
        password=secrets.supervisor,
        logs=layout.logs,
        programs=stack_programs(layout, secrets),
    )


def _stop_programs(supervisor: Supervisor, layout: Layout, secrets: Credentials, log: Log) -> None:
    """Ask supervisord to stop everything, and wait for it as long as it answers."""
    if not supervisor.alive():
        return
    log("stopping")
    # If supervisord gives up meanwhile, what is left is ended by `processes.end` all the same.
    with contextlib.suppress(TransientError):
        # The worker first: the server must still be there to hear of its runs, and so must the
        # database until the server has ended.
        for name in (prefect_programs.WORKER, prefect_programs.SERVER):
            supervisor.stop(name)
        supervisor.stop_all()
        supervisor.shutdown()
    deadline = time.monotonic() + _STOP_SECONDS
    while processes.of_stack(secrets.stack) and time.monotonic() < deadline:
        if not listens(layout.ports[SUPERVISOR_PORT]):
            return
        time.sleep(0.1)


def _start_worker(api: PrefectAPI, supervisor: Supervisor, layout: Layout) -> None:
    """Start the worker, now that there is something to work on, unless it runs."""
    name = prefect_programs.WORKER
    if supervisor.programs()[name]["statename"] in {_RUNNING, "STARTING"}:
        return
    started = datetime.now(UTC)
    supervisor.start(name)
    readiness.wait_for_worker(api, supervisor, started, layout.logs)


def _change_containers(
    layout: Layout, action: Literal["resume", "stop", "remove"], log: Log
) -> None:
    """Resume, stop or remove the model containers of every environment that may have some."""
    try:
        for name, environment in layout.host_settings().items():
            # By its lock: a deploy that was killed may have left a container and no route.
            deployed = (Settings(home=layout.home).locks / f"{name}.lock").exists()
            if deployed and isinstance(environment, DockerEnvironment):
                from deployments.local.containers import ModelContainers

                containers = ModelContainers(environment, layout.routes, layout.gateway_api_url)
                {
                    "resume": containers.resume,
                    "stop": containers.stop,
                    "remove": containers.remove,
                }[action]()
    except SlipwayError as error:
        log(f"could not {action} the model's container: {error.what}")


def _set_hook(layout: Layout, secrets: Credentials, options: Options) -> None:
    if options.deploy_on_push:
        origin.deploy_on_push(
            layout.origin,
            layout.checkout,
            home=layout.home,
            marker=f"{processes.MARKER}={secrets.stack}",
            log=layout.logs / "post-receive.log",
        )
    else:
        origin.ignore_pushes(layout.origin)
