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
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx

from deployments.ci.comment import MARKER, REPORT, comment_text, read_pictures
from deployments.ci.rest import RestAPI
from tasks.core.errors import ConfigurationError, SlipwayError

TOKEN_VARIABLE = "SLIPWAY_REPORT_TOKEN"  # noqa: S105 - the name of a variable
_VARIABLES = (
    "CI_API_V4_URL", "CI_MERGE_REQUEST_PROJECT_ID", "CI_MERGE_REQUEST_PROJECT_URL",
    "CI_MERGE_REQUEST_IID", TOKEN_VARIABLE,
)  # fmt: skip
_UNCHANGED = "the note is unchanged"
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


def upload_pictures(gitlab: RestAPI, pictures: Mapping[str, bytes], text: str) -> dict[str, str]:
    """Upload pictures that an earlier text does not show; return the URLs of all by file name.

    Uploads are never removed, so one that has not changed is not uploaded again.

    Args:
        gitlab: The project's REST API.
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
            urls[name] = str(gitlab.request("POST", "/uploads", files=files)["url"])
    return urls


def find_note(gitlab: RestAPI, path: str, author: int) -> Mapping[str, Any] | None:
    """Return our note on a merge request, None if there is none.

    Args:
        gitlab: The project's REST API.
        path: Path of the merge request's notes.
        author: ID of the token's user: a person may quote the marker.
    """
    for note in gitlab.read_list(path, sort="asc"):
        if note["author"]["id"] == author and note["body"].startswith(MARKER):
            return note
    return None


def _api(client: httpx.Client) -> RestAPI:
    return RestAPI(
        client,
        host="GitLab",
        state=_UNCHANGED,
        report="the artifacts of the job `report`",
        permission=f"a project access token in {TOKEN_VARIABLE}, with the role Reporter and the"
        " scope api",
    )


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
            state=_UNCHANGED,
            next_step=f"run this in a job of GitLab CI for a merge request, with {TOKEN_VARIABLE}",
        )
    api, project, page, number, token = (environment[name] for name in _VARIABLES)
    headers = {"PRIVATE-TOKEN": token}
    with httpx.Client(base_url=api, headers=headers, timeout=30) as client:
        author = int(_api(client).request("GET", "/user")["id"])
    url = f"{api}/projects/{project}"
    with httpx.Client(base_url=url, headers=headers, timeout=30) as client:
        gitlab = _api(client)
        path = f"/merge_requests/{number}/notes"
        note = find_note(gitlab, path, author)
        pictures = upload_pictures(gitlab, read_pictures(folder), note["body"] if note else "")
        body = {"body": note_text((folder / REPORT).read_text(), pictures)}
        if note:
            note = gitlab.request("PUT", f"{path}/{note['id']}", json=body)
        else:
            note = gitlab.request("POST", path, json=body)
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
