"""What the targets on platforms elsewhere share: proof on the worker, then an image in a registry.

A server of ours answers `/readyz` only after it has verified its bytes and replayed its golden
predictions, so a platform that waits for its health check sends no traffic to an unproven model.
"""

from __future__ import annotations

import json
import shutil
from abc import abstractmethod
from pathlib import Path
from typing import TypeVar

import anyio

from tasks.package.package import Package
from tasks.platforms.base.image_target import ImagedTarget
from tasks.platforms.base.settings import RemoteEnvironment
from tasks.platforms.base.target import name_of_release
from tasks.platforms.base.trial import boot, stage

E = TypeVar("E", bound=RemoteEnvironment)


class RemoteTarget(ImagedTarget[E]):
    """One environment on a platform elsewhere, which runs the model's image.

    Args:
        environment: Its settings.
    """

    def __init__(self, environment: E) -> None:
        self._environment = environment
        self._package: Package | None = None
        self._identifier = ""

    @property
    @abstractmethod
    def url(self) -> str:
        """The public URL of the live model."""

    @property
    def page(self) -> str | None:
        """Where people try the live model; None if browsers cannot."""
        return self.url

    async def preflight(self, package: Package, file: Path) -> None:
        """Prove the package on the worker, push its image, rehearse it where that is possible."""
        if self._package is None:  # else it has been proven, and what came after is tried again
            self._identifier = name_of_release(package)
            await self._try(package, file)
            self._package = package
        try:
            await self._prepare()
            await self._build(package, file)
            await self._rehearse()
        except BaseException:
            with anyio.CancelScope(shield=True):  # a cancelled deploy leaves nothing either
                await self._retire()
            raise

    async def _try(self, package: Package, file: Path) -> None:
        folder = package.workspace.path / "trial"  # goes with the workspace
        bundle = await stage(
            package,
            file,
            folder,
            environment=self._environment.name,
            identifier=self._identifier,
        )
        try:
            await boot(bundle, self._environment.ready_seconds)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    async def _prepare(self) -> None:
        """Make what the image is pushed to, where it is not there by itself."""

    async def _rehearse(self) -> None:
        """Prove the image on the platform itself, without traffic, where it can be proven so."""

    def _made(self) -> Package:
        assert self._package, "preflight comes first"
        return self._package

    def _release_variables(self, version: str) -> dict[str, str]:
        """Variables that tell the server what it is released as."""
        told = {
            "environment": self._environment.name,
            "release": self._identifier,
            "version": version,
        }
        return {"SLIPWAY_RELEASE": json.dumps(told)}
