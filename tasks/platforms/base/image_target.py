"""The base of targets that run container images: a registry, and the retention of images in it."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from tasks.images.build import Image, ImageSpec, build_image
from tasks.images.login import load_login
from tasks.images.reference import parse_reference
from tasks.images.registry import Login, Repository
from tasks.images.retention import retire, warn_on_failure
from tasks.package.package import Package
from tasks.platforms.base.settings import ImageEnvironment
from tasks.platforms.base.target import Staged

E = TypeVar("E", bound=ImageEnvironment)


@dataclass(frozen=True)
class StagedImage(Staged):
    """A package that preflight has proven, and its image in the registry."""

    image: Image


class ImageTarget(ABC, Generic[E]):
    """One environment that runs images from a registry."""

    _environment: E

    async def _build(self, package: Package, file: Path) -> Image:
        """Build the image of a package, and push it."""
        spec = ImageSpec(
            environment=self._environment.name,
            repository=self._environment.repository,
            base=self._environment.base,
            platforms=self._environment.platforms,
        )
        return await build_image(package, file, spec, await self._log_in())

    async def _log_in(self) -> Login | None:
        """Return the login for the registry, None where it asks for none."""
        return await load_login(self._environment.registry_block)

    def _pushes_to(self, registry: str) -> bool:
        """Return whether the images go to a registry, given by its host."""
        return parse_reference(self._environment.repository).host == registry

    async def _repository(self) -> Repository:
        """Return the repository of the environment's images."""
        return Repository(parse_reference(self._environment.repository), await self._log_in())

    async def _try_registry(self) -> str:
        """Prove that our images may be pushed; in one sentence, for `check`."""
        repository = await self._repository()
        await asyncio.to_thread(repository.try_push)
        return f"{repository.name} takes our images"

    @abstractmethod
    async def _images_in_use(self) -> Collection[str]:
        """Return the digests of the images of the live release and of those kept for rollback."""

    async def _retire(self) -> None:
        """Drop this environment's images that nothing on the platform needs."""
        with warn_on_failure():
            repository, keep = await self._repository(), await self._images_in_use()
            await asyncio.to_thread(retire, repository, self._environment.name, keep)
