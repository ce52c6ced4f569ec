"""The build of an image: base, packages, serving code, model.

The layers that change least lie lowest, so that most pushes send the model alone.
"""

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
from tasks.images.attachments import attach
from tasks.images.base import Base, read_base
from tasks.images.image import FOLDER, LABEL, MODEL, image_config, image_list, image_manifest
from tasks.images.layers import Layer, write_layer
from tasks.images.packages import compile_modules, make_packages
from tasks.images.reference import Reference, parse_reference
from tasks.images.registry import Login, Manifest, Repository
from tasks.images.retention import tag_of
from tasks.package.card import read_card
from tasks.package.package import Package
from tasks.package.signature import SIGNATURE
from tasks.package.statement import BUNDLE_TYPE
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
        reference: Its name, with its digest.
        manifests: Its manifest by platform.
    """

    reference: Reference
    manifests: Mapping[str, Manifest]


async def build_image(package: Package, file: Path, spec: ImageSpec, login: Login | None) -> Image:
    """Build the image of a model and push it, except the layers that are there already.

    Args:
        package: The model.
        file: Its verified model file.
        spec: Base, platforms and repository.
        login: Credentials for the registry of the repository.

    Raises:
        ConfigurationError: The base image does not exist, or has another Python than the model.
        TerminalError: A package cannot be installed, or the registry denies the push.
        TransientError: The registry or the package index does not answer.
    """
    target = parse_reference(spec.repository)
    base_name = parse_reference(spec.base.replace("{python}", package.minor_python))
    repository = Repository(target, login)
    # No other registry is shown the credentials of this one.
    bases = Repository(base_name, login if base_name.host == target.host else None)
    seconds = int((await package.workspace.git(git.commit_time(package.commit))).stdout)
    commit_time = datetime.fromtimestamp(seconds, UTC)
    base_images: dict[str, Base] = {}
    for platform in spec.platforms:
        base_images[platform] = await asyncio.to_thread(read_base, bases, base_name, platform)
        _check_python(base_images[platform], package)
    upper = await _make_upper_layers(package, file)
    manifests: dict[str, Manifest] = {}
    for platform, base in base_images.items():
        packages = await make_packages(package, platform)
        layers = (packages.layer, *upper)
        labels = _labels(package, base, base_name)
        config = image_config(base, layers, names=_NAMES, labels=labels, made=commit_time)
        manifest = image_manifest(config, (*base.layers, *layers))
        await asyncio.to_thread(_push, repository, bases, base, layers, config)
        await asyncio.to_thread(repository.put, manifest)
        bill = sbom.bill_of_materials(package, manifest, base, packages.distributions, commit_time)
        await asyncio.to_thread(_attach, repository, manifest, bill, sbom.TYPE)
        if signature := package.attachments.get(f"{package.model}{SIGNATURE}"):
            await asyncio.to_thread(_attach, repository, manifest, signature, BUNDLE_TYPE)
        manifests[platform] = manifest
    image = image_list(manifests)
    # With its tag, a later deploy finds the image and drops it if this one is killed.
    tag = tag_of(spec.environment, image.digest)
    if await asyncio.to_thread(repository.manifest, tag) is None:  # some registries allow no second
        await asyncio.to_thread(repository.put, image, tag)
    return Image(target.at(image.digest), manifests)


def copy_layer(source: Repository, target: Repository, layer: Layer) -> bool:
    """Copy a layer between repositories; return False if the target has it already."""
    if target.has(layer.digest):
        return False
    path = Settings().layers / layer.digest.replace(":", "-")
    path.parent.mkdir(parents=True, exist_ok=True)
    # Another deploy on this host that copies the layer would remove the file before it is sent.
    with FileLock(f"{path}.lock"):
        source.fetch(layer.digest, path)
        sent = target.upload(replace(layer, path=path))
        path.unlink()
    return sent


async def _make_upper_layers(package: Package, file: Path) -> tuple[Layer, Layer]:
    """Write the layers of a commit: its serving code and its model."""
    folder = package.workspace.path / "image"
    shutil.rmtree(folder, ignore_errors=True)
    code = folder / "serving"
    shutil.copytree(
        package.workspace.path / "serving", code, ignore=shutil.ignore_patterns("__pycache__", ".*")
    )
    await compile_modules(code, f"{FOLDER}/serving", package.minor_python)
    release = {
        "name": package.model,
        "commit": package.commit,
        "md5": package.md5,
        "serving": package.serving,
        "card": read_card(package.workspace.path),
    }
    files: dict[str, Path | bytes] = {
        f"{MODEL}/{package.model}": file,
        **{f"{MODEL}/{path.name}": path for path in package.files},
        **{f"{MODEL}/{name}": content for name, content in package.attachments.items()},
        f"{MODEL}/release.json": json.dumps(release, indent=2).encode(),
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


def _attach(repository: Repository, image: Manifest, content: bytes, kind: str) -> None:
    try:
        attach(repository, image, content, kind)
    except TerminalError as error:  # Heroku's registry takes images alone
        commands.run_logger().warning("nothing of type %s beside the image: %s", kind, error.what)


def _labels(package: Package, base: Base, base_name: Reference) -> dict[str, str]:
    return {
        "org.opencontainers.image.title": package.model,
        "org.opencontainers.image.revision": package.commit,
        "org.opencontainers.image.base.name": str(base_name),
        "org.opencontainers.image.base.digest": base.reference.digest or "",
        f"{LABEL}.model": package.model,
        f"{LABEL}.commit": package.commit,
        f"{LABEL}.md5": package.md5,
        f"{LABEL}.serving": package.serving,
    }


def _check_python(base: Base, package: Package) -> None:
    python = base.environment.get("PYTHON_VERSION")  # official images set it
    if python and not f"{python}.".startswith(f"{package.minor_python}."):
        raise ConfigurationError(
            f"base image {base.reference.name} has Python {python}; the model was saved with"
            f" {package.python}",
            state="nothing was pushed",
            next_step="set `base` in the environment's file; {python} stands for the model's",
        )
