"""Variants: images of the same layers with other variables or arguments.

Some platforms read these in the image alone, not in the release. A variant costs a registry two
small documents.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from tasks.images.base import variables_of
from tasks.images.registry import Manifest, Repository, sha256
from tasks.images.retention import tag_of


def push_variant(
    repository: Repository,
    environment: str,
    image: Manifest,
    variables: Mapping[str, str],
    arguments: Sequence[str],
) -> Manifest:
    """Push an image with other variables and arguments than one in the repository.

    Args:
        repository: The repository that has the image.
        environment: Name of the environment of the variant.
        image: The image, for one platform.
        variables: Variables to add to the image's own.
        arguments: Arguments of its entry point.
    """
    config = vary(repository.read(image_id(image)), variables, arguments)
    repository.write(config)
    description = {**image.document["config"], "size": len(config), "digest": sha256(config)}
    variant = Manifest.of({**image.document, "config": description})
    repository.put(variant, tag_of(environment, variant.digest))
    return variant


def vary(config: bytes, variables: Mapping[str, str], arguments: Sequence[str]) -> bytes:
    """Write the configuration of a variant.

    Args:
        config: The image's own.
        variables: Variables to add to the image's own.
        arguments: Arguments of its entry point.

    Returns:
        The document: the same bytes for the same arguments.
    """
    document: dict[str, Any] = json.loads(config)
    environment = variables_of(document) | dict(variables)
    document["config"] |= {
        "Env": [f"{name}={value}" for name, value in environment.items()],
        "Cmd": list(arguments),
    }
    return json.dumps(document, indent=2).encode()


def image_id(image: Manifest) -> str:
    """Return the digest of an image's configuration, its name in engines."""
    return str(image.document["config"]["digest"])
