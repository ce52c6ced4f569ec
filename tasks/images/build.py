"""Building an image: base, packages, serving code, model; what changes least lies lowest."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock

from tasks.core import commands
from tasks.core.errors import ConfigurationError, TerminalError
from tasks.core.settings import Settings
from tasks.images import sbom
from tasks.images.base import Base, read_base
from tasks.images.image import FOLDER, LABEL, MODEL, image_config, image_list, image_manifest
from tasks.images.layers import Layer, write_layer
from tasks.images.packages import compile_modules, make_packages
from tasks.images.reference import Reference, parse_reference
from tasks.images.registry import Login, Manifest, Repository
from tasks.images.retention import tag_of
from tasks.package.package import Package
from tasks.repository import git

_NAMES = ("packages", "serving code", "model")


@dataclass(frozen=True)
class ImageSpec:
    """The base, platforms and repository of an environment's images.

    Attributes:
        environment: Name of the environment, part of the images' tags.
        repository: Where images are pushed, `registry/repository`.
        base: The image they are built upon; `{python}` stands for the model's Python version.
        platforms: For instance `linux/amd64`.
    """

    environment: str
    repository: str
    base: str
    platforms: tuple[str, ...]


@dataclass(frozen=True)
class Image:
    """An image in a registry.

    Attributes:
        reference: Where it is, by digest.
        manifests: The manifest for each platform.
    """

    reference: Reference
    manifests: Mapping[str, Manifest]


async def build_image(package: Package, file: Path, spec: ImageSpec, login: Login | None) -> Image:
    """Build the image of a model and push it; what is there already is neither made nor sent.

    Args:
        package: The model.
        file: Its verified model file.
        spec: Base, platforms and repository.
        login: Who we are to the registry.

    Returns:
        The image.

    Raises:
        ConfigurationError: The base image does not exist or does not fit.
        TerminalError: Something cannot be installed or pushed.
        TransientError: The registry or the package index does not answer.
    """
    where = parse_reference(spec.repository)
    wanted = parse_reference(spec.base.replace("{python}", package.minor_python))
    repository = Repository(where, login)
    # The login is for the registry that it was made for, and for no other.
    bases = Repository(wanted, login if wanted.host == where.host else None)
    made = int((await package.workspace.git(git.commit_time(package.commit))).stdout)
    moment = datetime.fromtimestamp(made, UTC)
    found: dict[str, Base] = {}
    for platform in spec.platforms:
        found[platform] = await asyncio.to_thread(read_base, bases, wanted, platform)
        _check_python(found[platform], package)
    ours = await _own_layers(package, file)
    manifests: dict[str, Manifest] = {}
    for machine, base in found.items():
        packages = await make_packages(package, machine)
        layers = (packages.layer, *ours)
        config = image_config(
            base, layers, names=_NAMES, labels=_labels(package, base, wanted), made=moment
        )
        manifest = image_manifest(config, (*base.layers, *layers))
        await asyncio.to_thread(_push, repository, bases, base, layers, config)
        await asyncio.to_thread(repository.put, manifest)
        bill = sbom.bill_of_materials(package, manifest, base, packages.distributions, moment)
        await asyncio.to_thread(_attach, repository, manifest, bill)
        manifests[machine] = manifest
    image = image_list(manifests)
    # From now on it has a tag, by which it is found and dropped if this deploy is killed.
    tag = tag_of(spec.environment, image.digest)
    if await asyncio.to_thread(repository.manifest, tag) is None:  # some take a tag only once
        await asyncio.to_thread(repository.put, image, tag)
    return Image(where.at(image.digest), manifests)


def copy_layer(source: Repository, target: Repository, layer: Layer) -> bool:
    """Copy a layer from one repository to another, unless it is there already.

    Args:
        source: Where it is.
        target: Where it is to be.
        layer: The layer.

    Returns:
        Whether that was necessary.
    """
    if target.has(layer.digest):
        return False
    path = Settings().layers / layer.digest.replace(":", "-")
    path.parent.mkdir(parents=True, exist_ok=True)
    # Another deploy of this host that copies it as well would remove it before it is sent.
    with FileLock(f"{path}.lock"):
        source.fetch(layer.digest, path)
        sent = target.upload(replace(layer, path=path))
        path.unlink()
    return sent


async def _own_layers(package: Package, file: Path) -> tuple[Layer, Layer]:
    """What a commit adds: its serving code and its model."""
    folder = package.workspace.path / "image"
    shutil.rmtree(folder, ignore_errors=True)
    code = folder / "serving"
    shutil.copytree(
        package.workspace.path / "serving", code, ignore=shutil.ignore_patterns("__pycache__", ".*")
    )
    await compile_modules(code, f"{FOLDER}/serving", package.minor_python)
    said = {
        "name": package.model,
        "commit": package.commit,
        "md5": package.md5,
        "serving": package.serving,
    }
    files: dict[str, Path | bytes] = {
        f"{MODEL}/{package.model}": file,
        **{f"{MODEL}/{path.name}": path for path in package.files},
        f"{MODEL}/release.json": json.dumps(said, indent=2).encode(),
    }
    return (
        await asyncio.to_thread(
            write_layer, folder / "serving.tar.gz", {f"{FOLDER}/serving": code}
        ),
        await asyncio.to_thread(write_layer, folder / "model.tar.gz", files),
    )


def _push(
    repository: Repository, bases: Repository, base: Base, layers: Sequence[Layer], config: bytes
) -> None:
    sent = 0
    for layer in base.layers:
        sent += layer.size if copy_layer(bases, repository, layer) else 0
    for layer in layers:
        sent += layer.size if repository.upload(layer) else 0
    repository.write(config)
    total = sum(layer.size for layer in (*base.layers, *layers))
    commands.run_logger().info(
        "%s: %.2f of %.2f MB were new to the registry", repository.name, sent / 1e6, total / 1e6
    )


def _attach(repository: Repository, image: Manifest, bill: bytes) -> None:
    try:
        sbom.attach(repository, image, bill)
    except TerminalError as error:  # Heroku's registry takes images alone
        commands.run_logger().warning("no bill of materials beside the image: %s", error.what)


def _labels(package: Package, base: Base, wanted: Reference) -> dict[str, str]:
    return {
        "org.opencontainers.image.title": package.model,
        "org.opencontainers.image.revision": package.commit,
        "org.opencontainers.image.base.name": str(wanted),
        "org.opencontainers.image.base.digest": base.reference.digest or "",
        f"{LABEL}.model": package.model,
        f"{LABEL}.commit": package.commit,
        f"{LABEL}.md5": package.md5,
        f"{LABEL}.serving": package.serving,
    }


def _check_python(base: Base, package: Package) -> None:
    has = base.environment.get("PYTHON_VERSION")  # as official images say it
    if has and not f"{has}.".startswith(f"{package.minor_python}."):
        raise ConfigurationError(
            f"base image {base.reference.name} has Python {has}; the model was saved with"
            f" {package.python}",
            state="nothing was pushed",
            next_step="set `base` in the environment's file; {python} stands for the model's",
        )
