"""Base images: the lowest layers of every image, taken from a registry by digest."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tasks.core.errors import ConfigurationError
from tasks.images.layers import Layer
from tasks.images.reference import Reference
from tasks.images.registry import Manifest, Repository

# A layer has the same bytes under either media type.
_LAYER_TYPES = {
    "application/vnd.oci.image.layer.v1.tar+gzip",
    "application/vnd.docker.image.rootfs.diff.tar.gzip",
}


@dataclass(frozen=True)
class Base:
    """A base image for one platform.

    Attributes:
        reference: Its name, with the digest that the tag had.
        config: Its image configuration.
        layers: Its layers, bottom first.
    """

    reference: Reference
    config: Mapping[str, Any]
    layers: tuple[Layer, ...]

    @property
    def environment(self) -> dict[str, str]:
        """Its environment variables."""
        return variables_of(self.config)


def read_base(repository: Repository, reference: Reference, platform: str) -> Base:
    """Read the configuration and layers of a base image, without downloading the layers.

    Args:
        repository: The repository that has it.
        reference: Its name.
        platform: For instance `linux/amd64`.

    Returns:
        The base image, pinned to the digest it has now.

    Raises:
        ConfigurationError: The image does not exist, or cannot be a base.
    """
    manifest = _read(repository, reference, reference.version)
    if "manifests" in manifest.document:
        manifest = _read(repository, reference, _digest_for(manifest, reference, platform))
    document = manifest.document
    config = json.loads(repository.read(document["config"]["digest"]))
    own_platform = f"{config['os']}/{config['architecture']}"
    if own_platform != platform:
        raise _unfit(reference, f"is for {own_platform}, not {platform}")
    types = {layer["mediaType"] for layer in document["layers"]}
    if unknown := types - _LAYER_TYPES:
        raise _unfit(reference, f"has layers of type {', '.join(sorted(unknown))}")
    layers = tuple(
        Layer(layer["digest"], layer["size"], diff_id)
        for layer, diff_id in zip(document["layers"], config["rootfs"]["diff_ids"], strict=True)
    )
    return Base(reference.at(manifest.digest), config, layers)


def variables_of(config: Mapping[str, Any]) -> dict[str, str]:
    """Return the variables that an image's configuration sets."""
    pairs = config.get("config", {}).get("Env") or []
    return dict(pair.split("=", 1) for pair in pairs)


def _read(repository: Repository, reference: Reference, version: str) -> Manifest:
    manifest = repository.manifest(version)
    if manifest is None:
        raise _unfit(reference, "does not exist")
    return manifest


def _digest_for(index: Manifest, reference: Reference, platform: str) -> str:
    digests: dict[str, str] = {}
    for entry in index.document["manifests"]:
        description = entry.get("platform", {})
        name = f"{description.get('os')}/{description.get('architecture')}"
        digests.setdefault(name, entry["digest"])
    if platform not in digests:
        raise _unfit(reference, f"is not for {platform}, only for {', '.join(sorted(digests))}")
    return digests[platform]


def _unfit(reference: Reference, why: str) -> ConfigurationError:
    return ConfigurationError(
        f"base image {reference} {why}",
        state="nothing was pushed",
        next_step="set `base` or `platforms` in the environment's file",
    )
