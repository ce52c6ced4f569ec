"""What a deploy run said of itself: the release note that it published."""

from __future__ import annotations

import re
from dataclasses import dataclass

from deployments.prefect_api.client import PrefectAPI

_ROW = re.compile(r"^\| ([^|]+?) \| (.+?) \|$", re.MULTILINE)
_LINK = re.compile(r"\[[^]]*\]\(([^)]+)\)")


@dataclass(frozen=True)
class ReleaseNote:
    """A release note, as `tasks.reports.markdown.release_note` writes it.

    Attributes:
        markdown: The note: model version, metrics, links.
        outcome: `live`, `rolled_back`, `rejected`, `superseded` or `failed`.
        url: The page of the environment; empty if it has none.
    """

    markdown: str
    outcome: str
    url: str


def read_note(markdown: str) -> ReleaseNote:
    """Read out of a release note what machines want to know.

    Args:
        markdown: The note.

    Returns:
        The note with its facts.
    """
    rows = dict(_ROW.findall(markdown))
    page = _LINK.search(rows.get("page", ""))
    return ReleaseNote(markdown, rows.get("outcome", "").strip("*"), page[1] if page else "")


def note_of(api: PrefectAPI, run_id: str) -> ReleaseNote | None:
    """The newest release note of a deploy run.

    Args:
        api: The server.
        run_id: The run.

    Returns:
        The note, None if the run ended before it had something to say.
    """
    notes = (each for each in api.read_artifacts(run_id) if each.key.endswith("-release"))
    return next((read_note(each.data) for each in notes), None)
