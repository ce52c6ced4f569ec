"""Environments of the target `process`."""

from __future__ import annotations

from typing import Literal

from tasks.platforms.base.settings import HostEnvironment


class ProcessEnvironment(HostEnvironment):
    """An environment whose target is a process on the worker's own host."""

    target: Literal["process"]
