"""What a deploy run published about its release: the outcome as data, and a note for people."""

from __future__ import annotations

import json
from dataclasses import dataclass

from deployments.prefect_api.client import PrefectAPI
from tasks.reports.release_data import KEY_SUFFIX, ReleaseData


@dataclass(frozen=True)
class ReleaseNote:
    """The report of a release.

    Attributes:
        data: Its outcome and facts.
        markdown: The note for people: model version, metrics, links.
    """

    data: ReleaseData
    markdown: str


def read_release_note(api: PrefectAPI, run_id: str) -> ReleaseNote | None:
    """Return the newest release note of a deploy run.

    Args:
        api: The server.
        run_id: The run.

    Returns:
        The note, None if the run ended before it had a candidate.
    """
    data: ReleaseData | None = None
    markdown = ""
    for artifact in reversed(api.read_artifacts(run_id)):  # oldest first: a later try counts
        if artifact.key.endswith(KEY_SUFFIX):
            data = ReleaseData.from_json(json.loads(artifact.data))
        elif artifact.key.endswith("-release"):
            markdown = artifact.data
    return ReleaseNote(data, markdown) if data else None
