"""One comment on a pull request, kept up to date: `python -m deployments.github.sticky_comment`.

It publishes the folder that `deployments.github.pull_request` wrote. The report comes from the code
of the pull request and is not trusted: only its text and its PNGs are used. Needs httpx and Git.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping
from pathlib import Path

import httpx

from deployments.ci.comment import MARKER, REPORT, comment_text, read_pictures
from deployments.ci.rest import RestAPI
from deployments.github.pictures import commit_pictures
from tasks.core.errors import ConfigurationError, SlipwayError

_UNCHANGED = "the comment is unchanged"
_VARIABLES = ("GITHUB_API_URL", "GITHUB_SERVER_URL", "GITHUB_REPOSITORY", "GITHUB_TOKEN")


def write_comment(github: RestAPI, number: int, text: str) -> str:
    """Create our comment on a pull request, or update it, and return its URL.

    Args:
        github: The repository's REST API.
        number: Number of the pull request.
        text: The comment, which begins with the marker.
    """
    path = f"/issues/{number}/comments"
    for comment in github.read_list(path):
        # A person may quote the marker: our comment is that of a bot, and begins with it.
        if comment["user"]["type"] == "Bot" and comment["body"].startswith(MARKER):
            own = f"/issues/comments/{comment['id']}"
            return str(github.request("PATCH", own, json={"body": text})["html_url"])
    return str(github.request("POST", path, json={"body": text})["html_url"])


def publish_report(folder: Path, number: int, environment: Mapping[str, str] = os.environ) -> str:
    """Publish a report as the comment on a pull request, and return its URL.

    Args:
        folder: The folder that `deployments.github.pull_request` wrote.
        number: Number of the pull request.
        environment: Variables of the job.

    Raises:
        ConfigurationError: A variable of the job is missing.
    """
    if missing := [name for name in _VARIABLES if not environment.get(name)]:
        raise ConfigurationError(
            f"not set: {', '.join(missing)}",
            state=_UNCHANGED,
            next_step="run this in a job of GitHub Actions, with GITHUB_TOKEN in its env",
        )
    api, server, repository, token = (environment[name] for name in _VARIABLES)
    url, urls = f"{server}/{repository}", {}
    if pictures := read_pictures(folder):
        paths = {name: f"pull/{number}/{name}" for name in pictures}
        files = {paths[name]: content for name, content in pictures.items()}
        commit = commit_pictures(f"{url}.git", token, files, f"Pictures of pull request {number}")
        urls = {name: f"{url}/blob/{commit}/{path}?raw=true" for name, path in paths.items()}
    headers = {
        "Accept": "application/vnd.github+json",
        "Authorization": f"Bearer {token}",
        "X-GitHub-Api-Version": "2022-11-28",
    }
    text = comment_text((folder / REPORT).read_text(), urls)
    with httpx.Client(base_url=f"{api}/repos/{repository}", headers=headers, timeout=30) as client:
        github = RestAPI(
            client,
            host="GitHub",
            state=_UNCHANGED,
            report="the job's summary",
            permission="the permission pull-requests: write",
        )
        return write_comment(github, number, text)


def main() -> int:
    """Publish the comment from the command line of a job."""
    parser = argparse.ArgumentParser(prog="deployments.github.sticky_comment", description=__doc__)
    parser.add_argument("--report", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--pull-request", type=int, required=True, metavar="NUMBER")
    arguments = parser.parse_args()
    try:
        print(publish_report(arguments.report, arguments.pull_request))
    except SlipwayError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
