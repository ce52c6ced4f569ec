"""Variants: an image of the same layers that is started with other variables or arguments.

For platforms that read in the image what others are told beside it. A variant costs a registry two
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
    """Push an image that differs from one in the repository in how it is started.

    Args:
        repository: The repository that has the image.
        environment: Name of the environment that it is for.
        image: The image, for one platform.
        variables: Variables to add to those that it has.
        arguments: What follows its entry point.

    Returns:
        The variant.
    """
    config = vary(repository.read(image_id(image)), variables, arguments)
    repository.write(config)
    described = {**image.document["config"], "size": len(config), "digest": sha256(config)}
    variant = Manifest.of({**image.document, "config": described})
    repository.put(variant, tag_of(environment, variant.digest))
    return variant


def vary(config: bytes, variables: Mapping[str, str], arguments: Sequence[str]) -> bytes:
    """The configuration of a variant.

    Args:
        config: The image's own.
        variables: Variables to add to those that it has.
        arguments: What follows its entry point.

    Returns:
        The document, which has the same bytes for the same arguments.
    """
    document: dict[str, Any] = json.loads(config)
    environment = variables_of(document) | dict(variables)
    document["config"] |= {
        "Env": [f"{name}={value}" for name, value in environment.items()],
        "Cmd": list(arguments),
    }
    return json.dumps(document, indent=2).encode()


def image_id(image: Manifest) -> str:
    """What engines know an image by: the digest of its configuration."""
    return str(image.document["config"]["digest"])
