"""What a deploy run said of itself, read from the release note that it published."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from deployments.api import PrefectAPI

_ROW = re.compile(r"^\| ([^|]+?) \| (.+?) \|$", re.MULTILINE)
_HEADING = re.compile(r"^# (.+) to \S+$", re.MULTILINE)
_LINK = re.compile(r"\[[^]]*\]\(([^)]+)\)")
_METRIC = "metric "


@dataclass(frozen=True)
class ReleaseNote:
    """The facts of a release note, as `tasks.report.release_note` writes it.

    Attributes:
        outcome: `live`, `rolled_back`, `rejected` or `superseded`; without a note, the run's state.
        model: Name and version of the model.
        url: Where the environment serves.
        metrics: What the model achieved on its test split, by name.
    """

    outcome: str
    model: str = ""
    url: str = ""
    metrics: Mapping[str, str] = field(default_factory=dict)


def read_note(markdown: str) -> ReleaseNote:
    """Read the facts out of a release note.

    Args:
        markdown: The note.

    Returns:
        Its facts.
    """
    heading = _HEADING.search(markdown)
    rows = dict(_ROW.findall(markdown))
    link = _LINK.search(rows.get("page", ""))
    return ReleaseNote(
        outcome=rows.get("outcome", "").strip("*"),
        model=heading[1] if heading else "",
        url=link[1] if link else "",
        metrics={
            name.removeprefix(_METRIC): value
            for name, value in rows.items()
            if name.startswith(_METRIC)
        },
    )


def note_of(api: PrefectAPI, run_id: str) -> ReleaseNote | None:
    """The newest release note of a deploy run.

    Args:
        api: The server.
        run_id: The run.

    Returns:
        Its facts, None if the run ended before it had something to say.
    """
    notes = (each for each in api.artifacts(run_id) if each.key.endswith("-release"))
    return next((read_note(each.data) for each in notes), None)
