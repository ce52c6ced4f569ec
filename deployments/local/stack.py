"""The local stack: database, S3 server, Prefect server and worker, proxy, origin, in one folder."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from pathlib import Path

import psutil

from deployments.catalogue.block_variables import ObjectStorage
from deployments.local import (
    adoption,
    credentials,
    lifecycle,
    processes,
    programs,
    sign_in,
    state_file,
)
from deployments.local.layout import Layout
from deployments.local.lifecycle import Options
from deployments.local.program import Program
from deployments.local.registration import APPLY_OPTIONS
from deployments.local.worker_environment import worker_environment
from deployments.prefect_api.client import PrefectAPI
from tasks.core.settings import CHECKOUT
from tasks.platforms.process.supervisor import Supervisor

_STOPPED = "STOPPED"
UNSUPERVISED = "UNSUPERVISED"


class Stack:
    """One local stack; any number of them live side by side, each in its own folder.

    Args:
        home: Folder for everything the stack writes.
        checkout: The checkout whose flows the worker runs.
        source: Repository that origin is made from, if not the checkout.
        usual_ports: Whether to try well-known ports first, so that URLs are easy to remember.
        deploy_on_push: Whether a push to origin's main deploys, as it does on a Git host.
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
        main_environment: str | None = None,
    ) -> None:
        self.home = home.resolve()
        self.checkout = checkout.resolve()
        self._main_environment = main_environment
        self._options = Options(source or checkout, usual_ports, deploy_on_push)

    @property
    def layout(self) -> Layout:
        """The layout that the last start wrote."""
        return state_file.read_layout(self.home, self.checkout, self._main_environment)

    @property
    def credentials(self) -> credentials.Credentials:
        """The stack's secrets."""
        return credentials.load(self.home / "secrets")

    def up(self, log: Callable[[str], None] = lambda _: None) -> None:
        """Start what does not run, and bring origin and the Prefect server up to date.

        Args:
            log: Receives a line on every step.

        Raises:
            SlipwayError: See `lifecycle.bring_up`.
        """
        lifecycle.bring_up(lambda: self.layout, self._options, log)

    def down(self, log: Callable[[str], None] = lambda _: None) -> None:
        """Stop everything that runs, whatever state it is in; data stays."""
        lifecycle.take_down(lambda: self.layout, log)

    def clean(self, log: Callable[[str], None] = lambda _: None) -> None:
        """Stop everything, and remove what is not in the stack's folder: model containers."""
        self.down(log)
        lifecycle.remove_containers(self.layout, log)

    def status(self) -> dict[str, str]:
        """Return the state of every program.

        Returns:
            supervisord's word for it (`RUNNING`, `STOPPED`, `FATAL`, …) by name of the program,
            the model servers included; without supervisord `UNSUPERVISED` for what runs, and
            `STOPPED` for the rest.
        """
        if not self.ports or not self.supervisor.alive():
            return {
                **dict.fromkeys(programs.program_names(self.layout), _STOPPED),
                **dict.fromkeys(adoption.running_programs(self.logs), UNSUPERVISED),
            }
        return {
            name: str(program["statename"]) for name, program in self.supervisor.programs().items()
        }

    def memory(self) -> int:
        """Return how many bytes of memory the processes of the stack share out among them."""
        total = 0
        for process in processes.of_stack(self.credentials.stack):
            with contextlib.suppress(psutil.Error):
                # Proportional where the system tells: pages that two processes share count once.
                full = process.memory_full_info()
                total += getattr(full, "pss", 0) or full.rss
        return total

    def environment(self) -> dict[str, str]:
        """Return the variables that flow runs need, beside what they inherit."""
        return worker_environment(self.layout, self.credentials)

    def programs(self) -> tuple[Program, ...]:
        """Return the programs of the stack, in the order they start."""
        return programs.stack_programs(self.layout, self.credentials)

    def open_api(self) -> PrefectAPI:
        """Return a client of the Prefect server."""
        return lifecycle.open_api(self.layout, self.credentials)

    def sign_in_url(self, url: str) -> str:
        """Return a link to a page of the Prefect server that signs the browser in, once."""
        return sign_in.sign_in_url(self.prefect_ui_url, self.credentials.prefect, url)

    @property
    def supervisor(self) -> Supervisor:
        """Remote control of the process runner."""
        return lifecycle.connect(self.layout, self.credentials)

    @property
    def storage(self) -> ObjectStorage:
        """The bucket and its identities."""
        return self.layout.storage(self.credentials)

    @property
    def apply_options(self) -> tuple[str, ...]:
        """Options of `apply` for a Prefect server that is not in production."""
        return APPLY_OPTIONS

    # What `layout` says, for those who know a stack only.

    @property
    def origin(self) -> Path:
        """The bare repository that plays origin."""
        return self.layout.origin

    @property
    def logs(self) -> Path:
        """Folder of the programs' log files."""
        return self.layout.logs

    @property
    def routes(self) -> Path:
        """Folder from which the proxy reads its routes."""
        return self.layout.routes

    @property
    def ports(self) -> Mapping[str, int]:
        """The ports that the stack has chosen, by name; empty before its first start."""
        return self.layout.ports

    @property
    def main_environment(self) -> str:
        """The environment to which a push to origin's main deploys; `local` in a new stack."""
        return self.layout.main_environment

    @property
    def prefect_api_url(self) -> str:
        """URL of Prefect's REST API."""
        return self.layout.prefect_api_url

    @property
    def prefect_ui_url(self) -> str:
        """URL of Prefect's UI."""
        return self.layout.prefect_ui_url

    @property
    def s3_endpoint_url(self) -> str:
        """URL of the S3 server."""
        return self.layout.s3_endpoint_url

    @property
    def host_environments(self) -> tuple[str, ...]:
        """The environments that this stack serves: those on this host, since `up`."""
        return self.layout.host_environments

    def model_url(self, environment: str) -> str:
        """Return the URL of the live model of an environment on this host."""
        return self.layout.model_url(environment)
