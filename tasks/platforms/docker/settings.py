"""Environments of the target `docker`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tasks.platforms.base.settings import HostEnvironment, ImageEnvironment


class DockerEnvironment(HostEnvironment, ImageEnvironment):
    """An environment whose target is a container on the worker's own host.

    Attributes:
        engine: URL of the Docker engine; empty for the one that `docker` uses.
        memory: Memory limit of a container.
        cpus: Processor limit of a container.
    """

    target: Literal["docker"]
    engine: str = ""
    memory: str = Field("1g", pattern=r"^\d+[kmg]$")
    cpus: float = Field(1.0, gt=0)
