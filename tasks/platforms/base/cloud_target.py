"""The base of targets on platforms elsewhere: proof on the worker, then an image in a registry.

The model server answers `/readyz` only after it has verified its bytes and replayed its golden
predictions, so a platform that waits for its health check sends no traffic to an unproven model.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TypeVar

import anyio

from tasks.package.package import Package
from tasks.package.server import stage
from tasks.platforms.base.image_target import ImageTarget, StagedImage
from tasks.platforms.base.settings import CloudEnvironment
from tasks.platforms.base.target import Released, Staged, Target, name_of_release
from tasks.platforms.base.trial import boot

E = TypeVar("E", bound=CloudEnvironment)


R = TypeVar("R", bound=Released[StagedImage])


class CloudTarget(ImageTarget[E], Target[StagedImage, R]):
    """One environment on a platform elsewhere, which runs the model's image."""

    def __init__(self, environment: E) -> None:
        self._environment = environment
        self._variables = environment.variable_reader()
        self._trial: Staged | None = None

    @property
    def page(self) -> str | None:
        """The page to try the live model; None if browsers cannot."""
        return self.url

    async def preflight(self, package: Package, file: Path, version: str) -> StagedImage:
        """Prove the package on the worker, push its image, prove it on the platform if possible."""
        if self._trial is None:  # else the trial has passed, and this is a repetition
            tried = Staged(package, name_of_release(package))
            await self._run_trial(tried, file)
            self._trial = tried
        try:
            await self._prepare()
            image = await self._build(package, file)
            staged = StagedImage(package, self._trial.release, image)
            await self._prove_on_platform(staged)
            return staged
        except BaseException:
            with anyio.CancelScope(shield=True):  # a cancelled deploy leaves nothing either
                await self._retire()
            raise

    async def _run_trial(self, staged: Staged, file: Path) -> None:
        """Boot the package as a process of the worker, and prove it."""
        folder = staged.package.workspace.path / "trial"  # goes with the workspace
        bundle = await stage(
            staged.package,
            file,
            folder,
            environment=self._environment.name,
            identifier=staged.release,
        )
        try:
            variables = (await self._variables.read()).reveal()
            await boot(bundle, self._environment.ready_seconds, variables)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    async def _prepare(self) -> None:
        """Make what the image is pushed to, where it is not there by itself."""

    async def _prove_on_platform(self, staged: StagedImage) -> None:
        """Prove the image on the platform itself, without traffic, where it can be proven so."""

    def _release_variables(self, staged: Staged, version: str) -> dict[str, str]:
        """Make the variables that name the release to its server."""
        names = {
            "environment": self._environment.name,
            "release": staged.release,
            "version": version,
        }
        return {"SLIPWAY_RELEASE": json.dumps(names)}
