"""The images of an app in its registry: their labels, and the one that was proven last.

Heroku names images by the first digits of their ids, and so do all arguments here.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping

from tasks.images.base import variables_of
from tasks.images.image import LABEL
from tasks.images.registry import Manifest, Repository
from tasks.images.retention import proven_tag, tags_by_image
from tasks.images.variant import image_id
from tasks.platforms.heroku.releases import short


class Images:
    """The images of one app.

    Args:
        repository: Their repository.
        environment: Name of the environment.
    """

    def __init__(self, repository: Repository, environment: str) -> None:
        self._repository = repository
        self._proven = proven_tag(environment)

    def has(self, image: str) -> bool:
        """Return whether an image is in the registry, and is ours."""
        return self._find(image) is not None

    def labels(self, image: str) -> Mapping[str, str] | None:
        """Return the labels of an image and its release; None if it is missing, or not ours."""
        if (manifest := self._find(image)) is None:
            return None
        config = json.loads(self._repository.read(image_id(manifest)))
        texts = config["config"].get("Labels") or {}
        release = variables_of(config).get("SLIPWAY_RELEASE")
        labels = {name.removeprefix(f"{LABEL}."): text for name, text in texts.items()}
        return labels | json.loads(release) if release else None

    def mark(self, image: str) -> None:
        """Tag an image as the one that was proven last, if it is there."""
        if manifest := self._find(image):
            self._repository.put(manifest, self._proven)

    def proven(self) -> str:
        """Return the image that was proven last, empty if none was."""
        manifest = self._repository.manifest(self._proven)
        return short(image_id(manifest)) if manifest else ""

    def digests(self, images: Collection[str]) -> set[str]:
        """Return the digests of some images, and of the one that was proven last."""
        return {
            image.digest
            for image, tags in tags_by_image(self._repository).items()
            if short(image_id(image)) in images or self._proven in tags
        }

    def _find(self, image: str) -> Manifest | None:
        matches = (
            manifest
            for manifest in tags_by_image(self._repository)
            if short(image_id(manifest)) == image
        )
        return next(matches, None)
