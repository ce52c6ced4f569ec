"""The layer of packages: what the model and its server need, ready to import.

It depends on the pinned requirements alone, so that models with the same ones share it: on this
host, in the registry, and on every machine that runs them.
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
from tasks.core.fingerprint import fingerprint
from tasks.core.settings import Settings
from tasks.images import layers, slimming
from tasks.images.image import PACKAGES
from tasks.images.layers import Layer, read_layer, write_layer
from tasks.package.package import Package
from tasks.package.runtime import read_requirements, run_uv

# What uv calls the machines; 2.28 is the C library of every base image still maintained.
_WHEELS = {"linux/amd64": "x86_64-manylinux_2_28", "linux/arm64": "aarch64-manylinux_2_28"}
# A layer that another version of this recipe made is another layer.
_RECIPE = fingerprint(*map(Path, (__file__, layers.__file__, slimming.__file__, uv.__file__)))


@dataclass(frozen=True)
class Distribution:
    """A package in the layer.

    Attributes:
        name: Its name.
        version: Its version.
        license: Its licence as an SPDX expression, None if it does not say.
    """

    name: str
    version: str
    license: str | None


@dataclass(frozen=True)
class Packages:
    """The layer, and what is in it.

    Attributes:
        layer: The layer.
        distributions: Its packages, by name.
    """

    layer: Layer
    distributions: tuple[Distribution, ...]


async def make_packages(package: Package, platform: str) -> Packages:
    """Install what a model and its server need on a platform; the layer is made once a host.

    Args:
        package: The package.
        platform: For instance `linux/arm64`, whatever this host is.

    Returns:
        The layer.

    Raises:
        TerminalError: There is no wheel of something for that platform.
    """
    needed, python = await read_requirements(package), package.minor_python
    folder = Settings().layers
    folder.mkdir(parents=True, exist_ok=True)
    name = fingerprint(needed.serving, needed.model, python, platform, _RECIPE)
    path = folder / f"packages-{name}.tar.gz"
    listed = folder / f"packages-{name}.distributions.json"
    async with AsyncFileLock(f"{path}.lock"):
        if (layer := read_layer(path)) is None:
            partial = folder / f"packages-{name}"
            shutil.rmtree(partial, ignore_errors=True)
            installed = partial / "installed"
            installed.mkdir(parents=True)
            files = needed.write(partial)
            await run_uv(
                uv.install_for(installed, files, overrides=files[-1], python=python,
                               platform=_WHEELS[platform])
            )  # fmt: skip
            await _slim(installed, python)
            rows = [asdict(each) for each in _distributions(installed)]
            listed.write_text(json.dumps(rows, indent=2))
            layer = await asyncio.to_thread(write_layer, path, {PACKAGES: installed})
            shutil.rmtree(partial)
    return Packages(layer, tuple(Distribution(**row) for row in json.loads(listed.read_text())))


async def compile_modules(folder: Path, place: str, python: str, *, instead: bool = False) -> None:
    """Add byte code: a read-only container cannot, and would need twice the time to start.

    Args:
        folder: The folder.
        place: Where it is in the image.
        python: The Python that is to run it.
        instead: Whether the byte code replaces its source.
    """
    # Without a seed, the order of sets in the byte code differs from run to run.
    await run_uv(uv.compile_for(folder, place, python, instead=instead), PYTHONHASHSEED="0")
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
    found = []
    for each in metadata.distributions(path=[str(installed)]):
        said = each.metadata
        licenses = said.get_all("License-Expression") or [None]
        found.append(Distribution(said["Name"], each.version, licenses[0]))
    return sorted(found, key=lambda each: each.name.lower())
