"""The folders, ports and URLs of one stack."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from deployments.catalogue.block_variables import ObjectStorage
from deployments.local import gateway, image_registry, object_store, prefect_programs
from deployments.local.credentials import Credentials
from deployments.local.ports import HOST
from deployments.local.supervisor import SUPERVISOR_PORT
from tasks.images.reference import parse_reference
from tasks.platforms.base.settings import HostEnvironment, ImageEnvironment
from tasks.platforms.catalogue import environment_names, load_environment, variable


@dataclass(frozen=True)
class Layout:
    """The files and ports of one stack; no secrets.

    Attributes:
        home: Folder for everything the stack writes.
        checkout: The checkout whose flows the worker runs.
        ports: The chosen ports by name; empty before the first start.
        main_environment: The environment that a push to origin's main deploys to.
    """

    home: Path
    checkout: Path
    ports: Mapping[str, int]
    main_environment: str

    def with_ports(self, ports: Mapping[str, int]) -> Layout:
        """Return the same layout with other ports."""
        return replace(self, ports=dict(ports))

    @property
    def origin(self) -> Path:
        """The bare repository that plays origin."""
        return self.home / "origin.git"

    @property
    def logs(self) -> Path:
        """Folder of the programs' log files."""
        return self.home / "log"

    @property
    def routes(self) -> Path:
        """Folder from which the proxy reads its routes."""
        return self.home / "gateway"

    @property
    def counters(self) -> Path:
        """Folder of the samples of what the proxy counts."""
        return self.home / "counters"

    @property
    def spool(self) -> Path:
        """Folder of the records of prediction logs that wait for the bucket."""
        return self.home / "spool"

    @property
    def gauges(self) -> Path:
        """Folder of gauges for the node exporter."""
        return self.home / "gauges"

    @property
    def prefect_home(self) -> Path:
        """Prefect's own folder, of server and worker."""
        return self.home / "prefect"

    @property
    def database(self) -> Path:
        """Folder of PostgreSQL."""
        return self.home / "postgres"

    @property
    def objects(self) -> Path:
        """Folder of the S3 server."""
        return self.home / "object-store"

    @property
    def images(self) -> Path:
        """Folder of the container registry."""
        return self.home / image_registry.NAME

    @property
    def temporary(self) -> Path:
        """Folder for temporary files, emptied when supervisord starts."""
        return self.home / "tmp"

    @property
    def supervisor_configuration(self) -> Path:
        """The configuration file of supervisord."""
        return self.home / "supervisor" / "supervisord.conf"

    @property
    def prefect_api_url(self) -> str:
        """URL of Prefect's REST API."""
        return f"{self.prefect_ui_url}/api"

    @property
    def prefect_ui_url(self) -> str:
        """URL of Prefect's UI."""
        return f"http://{HOST}:{self.ports[prefect_programs.SERVER_PORT]}"

    @property
    def s3_endpoint_url(self) -> str:
        """URL of the S3 server."""
        return f"http://{HOST}:{self.ports[object_store.S3_PORT]}"

    @property
    def gateway_api_url(self) -> str:
        """URL of the proxy's API."""
        return f"http://{HOST}:{self.ports[gateway.API_PORT]}"

    @property
    def supervisor_url(self) -> str:
        """URL of supervisord's remote control."""
        return f"http://{HOST}:{self.ports[SUPERVISOR_PORT]}"

    def model_url(self, environment: str) -> str:
        """Return the URL of the live model of an environment on this host."""
        return f"http://{HOST}:{self.ports[environment]}"

    def storage(self, credentials: Credentials) -> ObjectStorage:
        """Describe the bucket and its identities."""
        return ObjectStorage(
            bucket=object_store.BUCKET,
            read_write=credentials.read_write,
            read=credentials.read,
            endpoint_url=self.s3_endpoint_url,
        )

    def host_settings(self) -> dict[str, HostEnvironment]:
        """Read the settings of every environment that runs on this host."""
        settings = {name: load_environment(name) for name in environment_names()}
        return {
            name: environment
            for name, environment in settings.items()
            if isinstance(environment, HostEnvironment)
        }

    @property
    def host_environments(self) -> tuple[str, ...]:
        """The environments on this host that have a port: those that the last `up` has seen."""
        return tuple(name for name in self.host_settings() if name in self.ports)

    @property
    def has_watch(self) -> bool:
        """True if releases of an environment on this host are watched after their switch."""
        return any(environment.watch_seconds for environment in self.host_settings().values())

    @property
    def has_log(self) -> bool:
        """True if model servers of an environment on this host keep a prediction log."""
        return any(environment.log for environment in self.host_settings().values())

    @property
    def has_image_registry(self) -> bool:
        """True if the stack runs its own container registry.

        It does if main's environment pushes to loopback, and no variable names another registry.
        """
        name = self.main_environment
        settings = self.host_settings().get(name)
        return (
            isinstance(settings, ImageEnvironment)
            and variable(name, "repository") not in os.environ
            and parse_reference(settings.repository).on_loopback
        )

    @property
    def image_repository(self) -> str:
        """The repository in the stack's own container registry; empty if it runs none.

        One that the stack is to run, but has not since its last start, has no port yet.
        """
        settings = self.host_settings().get(self.main_environment)
        if not self.has_image_registry or not isinstance(settings, ImageEnvironment):
            return ""
        if image_registry.PORT not in self.ports:
            return ""
        name = parse_reference(settings.repository).repository
        return f"{HOST}:{self.ports[image_registry.PORT]}/{name}"
