"""Base images: what an image of ours lies on, taken from a registry by digest."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tasks.core.errors import ConfigurationError
from tasks.images.layers import Layer
from tasks.images.reference import Reference
from tasks.images.registry import Manifest, Repository

# Layers packed so are the same bytes in either kind of manifest.
_PACKED = {
    "application/vnd.oci.image.layer.v1.tar+gzip",
    "application/vnd.docker.image.rootfs.diff.tar.gzip",
}


@dataclass(frozen=True)
class Base:
    """A base image for one platform.

    Attributes:
        reference: Where it is, by the digest that was resolved.
        config: What it says of itself.
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
    """Read what a base image consists of; its layers stay where they are.

    Args:
        repository: The repository it is in.
        reference: Its name.
        platform: Which of its platforms, for instance `linux/amd64`.

    Returns:
        The base image, pinned to the digest it has now.

    Raises:
        ConfigurationError: There is no such image, or it cannot be built upon.
    """
    manifest = _read(repository, reference, reference.version)
    if "manifests" in manifest.document:
        manifest = _read(repository, reference, _digest_for(manifest, reference, platform))
    document = manifest.document
    config = json.loads(repository.read(document["config"]["digest"]))
    made_for = f"{config['os']}/{config['architecture']}"
    if made_for != platform:
        raise _unfit(reference, f"is for {made_for}, not {platform}")
    packings = {layer["mediaType"] for layer in document["layers"]}
    if strange := packings - _PACKED:
        raise _unfit(reference, f"has layers of type {', '.join(sorted(strange))}")
    layers = tuple(
        Layer(layer["digest"], layer["size"], diff_id)
        for layer, diff_id in zip(document["layers"], config["rootfs"]["diff_ids"], strict=True)
    )
    return Base(reference.at(manifest.digest), config, layers)


def variables_of(config: Mapping[str, Any]) -> dict[str, str]:
    """The variables that an image's configuration sets."""
    pairs = config.get("config", {}).get("Env") or []
    return dict(pair.split("=", 1) for pair in pairs)


def _read(repository: Repository, reference: Reference, version: str) -> Manifest:
    manifest = repository.manifest(version)
    if manifest is None:
        raise _unfit(reference, "does not exist")
    return manifest


def _digest_for(index: Manifest, reference: Reference, platform: str) -> str:
    found: dict[str, str] = {}
    for entry in index.document["manifests"]:
        made_for = entry.get("platform", {})
        name = f"{made_for.get('os')}/{made_for.get('architecture')}"
        found.setdefault(name, entry["digest"])
    if platform not in found:
        raise _unfit(reference, f"is not for {platform}, only for {', '.join(sorted(found))}")
    return found[platform]


def _unfit(reference: Reference, why: str) -> ConfigurationError:
    return ConfigurationError(
        f"base image {reference} {why}",
        state="nothing was pushed",
        next_step="set `base` or `platforms` in the environment's file",
    )
