"""Which images stay in a registry: those of the releases that an environment keeps."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator

from tasks.core import commands
from tasks.core.errors import SlipwayError
from tasks.images.registry import Manifest, Repository

_ATTACHED = "sha256-"  # tags of what refers to an image


@contextlib.contextmanager
def warn_on_failure() -> Iterator[None]:
    """Log what fails in here as a warning: what is thrown away is no matter of what is live."""
    try:
        yield
    except SlipwayError as error:
        commands.run_logger().warning("old images stay in the registry: %s", error.what)


def retire(repository: Repository, environment: str, keep: Collection[str]) -> None:
    """Drop the images of an environment beyond those that it keeps, with what is attached to them.

    An image that another environment has as well stays, and so does one that a list of platforms
    names which stays: equal images are one. Registries that allow no deleting have rules of their
    own for what is old.

    Args:
        repository: Where they are.
        environment: Name of the environment.
        keep: Digests of those it keeps.
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
            "%d old images stay in %s, which lets nobody delete them", left, repository.name
        )


def tags_by_image(repository: Repository) -> dict[Manifest, set[str]]:
    """The images in a repository that have tags, and those tags."""
    images: dict[Manifest, set[str]] = {}
    for tag in repository.tags():
        if not tag.startswith(_ATTACHED) and (found := repository.manifest(tag)):
            images.setdefault(found, set()).add(tag)
    return images


def tag_of(environment: str, digest: str) -> str:
    """The tag that says that an environment has an image: without one, registries collect it."""
    return f"{environment}-at-{digest.removeprefix('sha256:')[:16]}"


def proven_tag(environment: str) -> str:
    """The tag of what an environment has proven last, for platforms that cannot say it."""
    return f"{environment}-proven"


def _tags(environment: str, image: Manifest) -> set[str]:
    return {tag_of(environment, image.digest), proven_tag(environment)}


def _platforms(image: Manifest) -> set[str]:
    """Digests of what a list of platforms names; none for an image that is no list."""
    return {entry["digest"] for entry in image.document.get("manifests", [])}


def _drop(repository: Repository, digest: str, spared: Collection[str]) -> bool:
    """Drop an image, on all its platforms, and what is attached to it.

    Args:
        repository: Where it is.
        digest: Its digest.
        spared: Digests that stay, although the image may name them.

    Returns:
        Whether it is gone.
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
