"""Removal of the images of old releases from a registry."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator

from tasks.core import commands
from tasks.core.errors import SlipwayError
from tasks.images.registry import Manifest, Repository

_ATTACHED = "sha256-"  # tags of documents that refer to an image


@contextlib.contextmanager
def warn_on_failure() -> Iterator[None]:
    """Turn a failure to remove images into a warning: it does not affect the live model."""
    try:
        yield
    except SlipwayError as error:
        commands.run_logger().warning("old images stay in the registry: %s", error.what)


def retire(repository: Repository, environment: str, keep: Collection[str]) -> None:
    """Drop an environment's images except some, with the documents attached to them.

    An image stays if another environment has it too, or if a list of platforms that stays names it:
    equal images are one. Registries that allow no deletion have retention rules of their own.

    Args:
        repository: Their repository.
        environment: Name of the environment.
        keep: Digests of the images to keep.
    """
    images = tags_by_image(repository)
    unwanted = [
        image
        for image, tags in images.items()
        if image.digest not in keep and tags <= _tags(environment, image)
    ]
    spared = set(keep)
    for image in images.keys() - set(unwanted):
        spared |= {image.digest} | _platforms(image)
    doomed = [image.digest for image in unwanted if image.digest not in spared]
    if left := sum(not _drop(repository, digest, spared) for digest in doomed):
        commands.run_logger().warning(
            "%d old images stay in %s, which allows no deletion", left, repository.name
        )


def tags_by_image(repository: Repository) -> dict[Manifest, set[str]]:
    """List the images in a repository that have tags, with these tags."""
    images: dict[Manifest, set[str]] = {}
    for tag in repository.tags():
        if not tag.startswith(_ATTACHED) and (image := repository.manifest(tag)):
            images.setdefault(image, set()).add(tag)
    return images


def tag_of(environment: str, digest: str) -> str:
    """Return the tag of an environment's image; registries collect an image without any tag."""
    return f"{environment}-at-{digest.removeprefix('sha256:')[:16]}"


def proven_tag(environment: str) -> str:
    """Return the tag of the image last proven in an environment, where the platform has no note."""
    return f"{environment}-proven"


def _tags(environment: str, image: Manifest) -> set[str]:
    return {tag_of(environment, image.digest), proven_tag(environment)}


def _platforms(image: Manifest) -> set[str]:
    """Return the digests that a list of platforms names; none for an image that is no list."""
    return {entry["digest"] for entry in image.document.get("manifests", [])}


def _drop(repository: Repository, digest: str, spared: Collection[str]) -> bool:
    """Drop an image of all its platforms, with the documents attached to it.

    Args:
        repository: Its repository.
        digest: Its digest.
        spared: Digests that stay, although the image may name them.

    Returns:
        False if the registry allows no deletion.
    """
    image = repository.manifest(digest)
    if image is None:
        return True
    for part in _platforms(image).difference(spared):
        _drop(repository, part, spared)
    index: Manifest | None = repository.manifest(digest.replace(":", "-"))
    if index:
        for entry in index.document["manifests"]:
            repository.drop(entry["digest"])
        repository.drop(index.digest)
    return repository.drop(digest)
