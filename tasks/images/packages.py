"""The layer of packages: what the model and its server need, ready to import.

It depends on the pinned requirements alone. Models with the same ones share it: on this host, in
the registry, and on every machine that runs them.
"""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path

from filelock import AsyncFileLock

from tasks.core import uv
from tasks.core.caches import mark_used
from tasks.core.fingerprint import fingerprint
from tasks.core.settings import Settings
from tasks.images import layers, slimming
from tasks.images.image import PACKAGES
from tasks.images.layers import Layer, read_layer, write_layer
from tasks.package.environment import run_uv
from tasks.package.package import Package
from tasks.package.runtime import STATE, read_requirements

# uv's names of the platforms; every base image still maintained has glibc 2.28 or newer.
_WHEELS = {"linux/amd64": "x86_64-manylinux_2_28", "linux/arm64": "aarch64-manylinux_2_28"}
# Part of the layer's name, so that a change of this code makes a new layer.
_RECIPE = fingerprint(*map(Path, (__file__, layers.__file__, slimming.__file__, uv.__file__)))


@dataclass(frozen=True)
class Distribution:
    """A package in the layer.

    Attributes:
        license: An SPDX expression, None if the package states none.
    """

    name: str
    version: str
    license: str | None


@dataclass(frozen=True)
class Packages:
    """The layer and its packages, sorted by name."""

    layer: Layer
    distributions: tuple[Distribution, ...]


async def make_packages(package: Package, platform: str) -> Packages:
    """Install the requirements of a model and its server for a platform, once a host.

    Args:
        package: The package.
        platform: For instance `linux/arm64`, whatever this host is.

    Raises:
        TerminalError: A requirement has no wheel for that platform.
    """
    requirements, python = await read_requirements(package), package.minor_python
    folder = Settings().layers
    folder.mkdir(parents=True, exist_ok=True)
    name = fingerprint(requirements.serving, requirements.model, python, platform, _RECIPE)
    path = folder / f"packages-{name}.tar.gz"
    listing = folder / f"packages-{name}.distributions.json"
    async with AsyncFileLock(f"{path}.lock"):
        if (layer := read_layer(path)) is None:
            partial = folder / f"packages-{name}"
            shutil.rmtree(partial, ignore_errors=True)
            installed = partial / "installed"
            installed.mkdir(parents=True)
            pinned = requirements.write(partial)
            await run_uv(
                uv.install_for(installed, pinned, python=python, platform=_WHEELS[platform]), STATE
            )
            await _slim(installed, python)
            rows = [asdict(distribution) for distribution in _distributions(installed)]
            listing.write_text(json.dumps(rows, indent=2))
            layer = await asyncio.to_thread(write_layer, path, {PACKAGES: installed})
            shutil.rmtree(partial)
        mark_used(path)
    return Packages(layer, tuple(Distribution(**row) for row in json.loads(listing.read_text())))


async def compile_modules(folder: Path, place: str, python: str, *, instead: bool = False) -> None:
    """Add byte code, which a read-only container cannot, and without which it starts half as fast.

    Args:
        folder: The folder.
        place: Its path in the image.
        python: The version of Python that runs it.
        instead: Whether to remove the sources.
    """
    # Without a seed, the order of sets in the byte code differs from run to run.
    argv = uv.compile_for(folder, place, python, instead=instead)
    await run_uv(argv, STATE, PYTHONHASHSEED="0")
    for source in folder.rglob("*.py") if instead else ():
        if source.with_suffix(".pyc").exists():
            source.unlink()


async def _slim(installed: Path, python: str) -> None:
    (installed / ".lock").unlink(missing_ok=True)
    shutil.rmtree(installed / "bin", ignore_errors=True)  # they name this host's Python
    for folder in (installed / name for name in slimming.LARGE if (installed / name).is_dir()):
        slimming.prune(folder)
        await compile_modules(folder, f"{PACKAGES}/{folder.name}", python, instead=True)
    await compile_modules(installed, PACKAGES, python)


def _distributions(installed: Path) -> Sequence[Distribution]:
    distributions = []
    for distribution in metadata.distributions(path=[str(installed)]):
        fields = distribution.metadata
        licenses = fields.get_all("License-Expression") or [None]
        distributions.append(Distribution(fields["Name"], distribution.version, licenses[0]))
    return sorted(distributions, key=lambda distribution: distribution.name.lower())
