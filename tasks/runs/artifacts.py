"""Prefect artifacts: markdown, links and progress that a flow run shows."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self
from uuid import UUID

from prefect.artifacts import (
    Artifact,
    acreate_link_artifact,
    acreate_markdown_artifact,
    acreate_progress_artifact,
    aupdate_progress_artifact,
)

from tasks.core.commands import run_logger


@contextmanager
def best_effort(what: str) -> Iterator[None]:
    """Turn any failure into a warning: a picture that is not shown must not undo the work."""
    try:
        yield
    except Exception as error:
        run_logger().warning("cannot show %s: %r", what, error)


def artifact_key(*parts: str) -> str:
    """Join words into an artifact key: lower case letters, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", "-".join(parts).lower()).strip("-")


class Progress:
    """A progress artifact of a long step, from 0 to 100 percent.

    Args:
        key: Key of the artifact.
        what: Description of the step.
    """

    def __init__(self, key: str, what: str) -> None:
        self._key = key
        self._what = what
        self._id: UUID | None = None

    async def __aenter__(self) -> Self:
        with best_effort(self._what):
            self._id = await acreate_progress_artifact(0.0, key=self._key, description=self._what)
        return self

    async def set(self, percent: float) -> None:
        """Show the progress, in percent."""
        if self._id:
            with best_effort(self._what):
                await aupdate_progress_artifact(self._id, progress=percent)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            await self.set(100.0)


async def publish_markdown(key: str, markdown: str, description: str) -> None:
    """Create a markdown artifact."""
    with best_effort(key):
        await acreate_markdown_artifact(markdown=markdown, key=key, description=description)


async def publish_json(key: str, values: dict[str, Any], description: str) -> None:
    """Create an artifact that programs read."""
    with best_effort(key):
        await Artifact(type="json", key=key, description=description, data=values).acreate()


async def read_description(key: str) -> str:
    """Return the description of the newest artifact of a key; empty if there is none."""
    with best_effort(key):
        artifact = await Artifact.aget(key)
        return (artifact.description or "") if artifact else ""
    return ""


async def publish_link(key: str, url: str, text: str) -> None:
    """Create a link artifact."""
    with best_effort(key):
        await acreate_link_artifact(link=url, link_text=text, key=key, description=text)
