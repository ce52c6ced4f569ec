"""One note on a merge request, kept up to date: `python -m deployments.gitlab.sticky_note`.

It publishes the folder that `deployments.gitlab.merge_request` wrote. The report comes from the
code of the merge request and is not trusted: only its text and its PNGs are used. Needs httpx.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx

from deployments.ci.comment import MARKER, REPORT, comment_text, read_pictures
from tasks.core.errors import ConfigurationError, SlipwayError, TerminalError, TransientError

TOKEN_VARIABLE = "SLIPWAY_REPORT_TOKEN"  # noqa: S105 - the name of a variable
_VARIABLES = (
    "CI_API_V4_URL", "CI_MERGE_REQUEST_PROJECT_ID", "CI_MERGE_REQUEST_PROJECT_URL",
    "CI_MERGE_REQUEST_IID", TOKEN_VARIABLE,
)  # fmt: skip
_PAGE = 100
# GitLab carries out lines of a note such as /label, with the rights of the token.
_QUICK_ACTION = re.compile(r"^(\s*(?:>\s*)*)/(?=\w)", re.MULTILINE)


def note_text(report: str, pictures: Mapping[str, str]) -> str:
    """Return the text of the note, in which GitLab finds no quick action.

    Args:
        report: The report, in which pictures are links to files beside it.
        pictures: URLs of the pictures by file name.
    """
    return comment_text(_QUICK_ACTION.sub(r"\1&#47;", report), pictures)


def upload_name(content: bytes) -> str:
    """Return the name under which a picture is uploaded: the same for the same content."""
    return f"{hashlib.sha256(content).hexdigest()[:16]}.png"


def upload_pictures(
    gitlab: httpx.Client, pictures: Mapping[str, bytes], text: str
) -> dict[str, str]:
    """Upload pictures that an earlier text does not show; return the URLs of all by file name.

    Uploads are never removed, so one that has not changed is not uploaded again.

    Args:
        gitlab: A client of the project's REST API.
        pictures: Content by file name.
        text: The note as it is; empty if there is none.
    """
    urls = {}
    for name, content in pictures.items():
        uploaded = upload_name(content)
        if known := re.search(rf"/uploads/[0-9a-f]+/{re.escape(uploaded)}", text):
            urls[name] = known[0]
        else:
            files = {"file": (uploaded, content, "image/png")}
            urls[name] = str(_request(gitlab, "POST", "/uploads", files=files)["url"])
    return urls


def find_note(gitlab: httpx.Client, path: str, author: int) -> Mapping[str, Any] | None:
    """Return our note on a merge request, None if there is none.

    Args:
        gitlab: A client of the project's REST API.
        path: Path of the merge request's notes.
        author: ID of the token's user: a person may quote the marker.
    """
    for note in _notes(gitlab, path):
        if note["author"]["id"] == author and note["body"].startswith(MARKER):
            return note
    return None


def _notes(gitlab: httpx.Client, path: str) -> Iterator[Mapping[str, Any]]:
    page = 1
    while True:
        notes = _request(gitlab, "GET", f"{path}?sort=asc&per_page={_PAGE}&page={page}")
        yield from notes
        if len(notes) < _PAGE:
            return
        page += 1


def _request(gitlab: httpx.Client, method: str, path: str, **content: Any) -> Any:
    try:
        response = gitlab.request(method, path, **content)
    except httpx.HTTPError as error:
        raise TransientError(
            f"GitLab does not answer: {error}",
            state="the note is unchanged",
            next_step="run this job again",
        ) from error
    if response.is_error:
        kind = TransientError if response.status_code >= 500 else TerminalError
        raise kind(
            f"{method} {path}: GitLab answers {response.status_code}: {response.text[:300]}",
            state="the note is unchanged; the report is in the artifacts of the job `report`",
            next_step=f"give the job a project access token in {TOKEN_VARIABLE}, with the role"
            " Reporter and the scope api, then run it again",
        )
    return response.json()


def publish_report(folder: Path, environment: Mapping[str, str] = os.environ) -> str:
    """Publish a report as the note on a merge request, and return its URL.

    Args:
        folder: The folder that `deployments.gitlab.merge_request` wrote.
        environment: Variables of the job.

    Raises:
        ConfigurationError: A variable of the job is missing.
    """
    if missing := [name for name in _VARIABLES if not environment.get(name)]:
        raise ConfigurationError(
            f"not set: {', '.join(missing)}",
            state="the note is unchanged",
            next_step=f"run this in a job of GitLab CI for a merge request, with {TOKEN_VARIABLE}",
        )
    api, project, page, number, token = (environment[name] for name in _VARIABLES)
    headers = {"PRIVATE-TOKEN": token}
    with httpx.Client(base_url=api, headers=headers, timeout=30) as client:
        author = int(_request(client, "GET", "/user")["id"])
    url = f"{api}/projects/{project}"
    with httpx.Client(base_url=url, headers=headers, timeout=30) as gitlab:
        path = f"/merge_requests/{number}/notes"
        note = find_note(gitlab, path, author)
        pictures = upload_pictures(gitlab, read_pictures(folder), note["body"] if note else "")
        body = {"body": note_text((folder / REPORT).read_text(), pictures)}
        if note:
            note = _request(gitlab, "PUT", f"{path}/{note['id']}", json=body)
        else:
            note = _request(gitlab, "POST", path, json=body)
    return f"{page}/-/merge_requests/{number}#note_{note['id']}"


def main() -> int:
    """Publish the note from the command line of a job."""
    parser = argparse.ArgumentParser(prog="deployments.gitlab.sticky_note", description=__doc__)
    parser.add_argument("--report", type=Path, required=True, metavar="FOLDER")
    try:
        print(publish_report(parser.parse_args().report))
    except SlipwayError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
