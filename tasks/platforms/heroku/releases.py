"""The releases of a Heroku app: the images that it has run, and the one that it runs now.

The API names the image of a release nowhere but in the release's description, by its first digits.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

_DEPLOYED = re.compile(r"\bweb \(([0-9a-f]{12})\)")
_WENT_BACK = re.compile(r"^Rollback to v(\d+)$")


@dataclass(frozen=True)
class Release:
    """A release of an app: of an image, of other variables, or a return to an earlier one.

    Attributes:
        status: `pending` while its release phase runs, then `succeeded` or `failed`.
        description: Why it was made, as Heroku words it.
    """

    identifier: str
    version: int
    status: str
    description: str

    @property
    def image(self) -> str:
        """The first digits of its new image, empty if it has none."""
        match = _DEPLOYED.search(self.description)
        return match[1] if match else ""


@dataclass(frozen=True)
class AppState:
    """The state of an app that runs an image.

    Attributes:
        release: The release that its dynos run.
        images: First digits of the images that it has run, without those it has gone back from:
            what it runs now, what it ran before, and so on.
        quantity: Number of web dynos that it should have.
        preboot: True if new dynos start before old ones stop; None if the file leaves it alone.
    """

    release: Release
    images: tuple[str, ...]
    quantity: int
    size: str
    preboot: bool | None

    @property
    def image(self) -> str:
        """First digits of the image that it runs."""
        return self.images[0] if self.images else ""


def lineage(releases: Iterable[Release]) -> tuple[str, ...]:
    """List the images that an app has run and has not gone back from.

    Args:
        releases: Its releases, newest first.

    Returns:
        The first digits of each, newest first: what it runs now is at the head.
    """
    images: dict[str, None] = {}
    newest: int | None = None
    for release in releases:
        if release.status in {"failed", "pending"} or (
            newest is not None and release.version > newest
        ):
            continue
        if back := _WENT_BACK.match(release.description):
            newest = int(back[1])
        elif release.image:
            images.setdefault(release.image)
    return tuple(images)


def newest_of(image: str, releases: Sequence[Release]) -> Release | None:
    """Find the newest release with which an app ran an image, and to which it can go back.

    Args:
        image: First digits of the image.
        releases: The app's releases, newest first.

    Returns:
        The release, None if there is none.
    """
    for number, release in enumerate(releases):
        if release.status == "succeeded" and lineage(releases[number:])[:1] == (image,):
            return release
    return None


def short(image: str) -> str:
    """Shorten an image's id to the digits by which Heroku names it."""
    return image.removeprefix("sha256:")[:12]
