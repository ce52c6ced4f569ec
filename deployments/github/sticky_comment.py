"""One comment on a pull request, kept up to date: `python -m deployments.github.sticky_comment`.

Takes what `deployments.github.pull_request` has written. GitHub shows no pictures that a comment
carries itself, so they are committed to a branch of their own, `slipway-reports`, and linked by
commit. The report comes from the code of the pull request and is not trusted: it is text and PNGs.
Needs httpx and nothing else.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from base64 import b64encode
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self

import httpx

from tasks.core.errors import ConfigurationError, SlipwayError, TerminalError, TransientError

MARKER = "<!-- slipway: report on the model -->"
BRANCH = "slipway-reports"
_REPORT = "report.md"
_PNG = b"\x89PNG\r\n\x1a\n"
_LARGEST = 2_000_000
_MOST = 20
_LONGEST = 65_000  # GitHub refuses a comment of more than 65,536 characters
_PAGE = 100
_TRIES = 5
_PICTURE = re.compile(r"!\[([^]]*)\]\(([\w.-]+\.png)\)")


class GitHub:
    """One repository on GitHub, through its REST API.

    Args:
        api: URL of the API.
        repository: `owner/name`.
        token: What may write comments and the branch with the pictures.
    """

    def __init__(self, api: str, repository: str, token: str) -> None:
        self._http = httpx.Client(
            base_url=f"{api}/repos/{repository}",
            headers={
                "Accept": "application/vnd.github+json",
                "Authorization": f"Bearer {token}",
                "X-GitHub-Api-Version": "2022-11-28",
            },
            timeout=30,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def upsert(self, number: int, text: str) -> str:
        """Write our comment on a pull request: change it if it is there.

        Args:
            number: The pull request.
            text: The comment, which begins with the marker.

        Returns:
            The comment's address.
        """
        ours = next((each for each in self._comments(number) if _is_ours(each)), None)
        if ours:
            answer = self._request("PATCH", f"/issues/comments/{ours['id']}", {"body": text})
        else:
            answer = self._request("POST", f"/issues/{number}/comments", {"body": text})
        return str(answer["html_url"])

    def commit(self, files: Mapping[str, bytes], message: str) -> str:
        """Commit files to the branch of the pictures, which shares no history with any other.

        Args:
            files: Content by path; what else is on the branch stays.
            message: The commit's message.

        Returns:
            The commit.

        Raises:
            TransientError: Others kept committing at the same time.
        """
        entries = [
            {"path": path, "mode": "100644", "type": "blob", "sha": self._blob(content)}
            for path, content in files.items()
        ]
        for _ in range(_TRIES):
            tip = self._tip()
            tree: dict[str, Any] = {"tree": entries}
            if tip:
                tree["base_tree"] = self._request("GET", f"/git/commits/{tip}")["tree"]["sha"]
            commit = {
                "message": message,
                "tree": self._request("POST", "/git/trees", tree)["sha"],
                "parents": [tip] if tip else [],
            }
            made = str(self._request("POST", "/git/commits", commit)["sha"])
            if self._move(tip, made):
                return made
        raise TransientError(
            f"others kept committing to {BRANCH} at the same time",
            state="there is no comment",
            next_step="run this job again",
        )

    def _blob(self, content: bytes) -> str:
        body = {"content": b64encode(content).decode(), "encoding": "base64"}
        return str(self._request("POST", "/git/blobs", body)["sha"])

    def _tip(self) -> str | None:
        found = self._request("GET", f"/git/ref/heads/{BRANCH}", expect=(404,))
        return str(found["object"]["sha"]) if found else None

    def _move(self, tip: str | None, commit: str) -> bool:
        """Move the branch to a commit; not if somebody else has moved it meanwhile."""
        if tip:
            path, body = f"/git/refs/heads/{BRANCH}", {"sha": commit, "force": False}
            return self._request("PATCH", path, body, expect=(422,)) is not None
        new = {"ref": f"refs/heads/{BRANCH}", "sha": commit}
        return self._request("POST", "/git/refs", new, expect=(422,)) is not None

    def _comments(self, number: int) -> Iterator[Mapping[str, Any]]:
        page = 1
        while True:
            path = f"/issues/{number}/comments?per_page={_PAGE}&page={page}"
            found = self._request("GET", path)
            yield from found
            if len(found) < _PAGE:
                return
            page += 1

    def _request(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        expect: tuple[int, ...] = (),
    ) -> Any:
        """Ask; an answer with one of the expected codes is None."""
        try:
            response = self._http.request(method, path, json=body)
        except httpx.HTTPError as error:
            raise TransientError(
                f"GitHub does not answer: {error}",
                state="the comment is as it was",
                next_step="run this job again",
            ) from error
        if response.status_code in expect:
            return None
        if response.is_error:
            kind = TransientError if response.status_code >= 500 else TerminalError
            raise kind(
                f"{method} {path}: GitHub answers {response.status_code}: {response.text[:300]}",
                state="the comment is as it was; the report is in the job's summary",
                next_step="see that the job has the permissions contents: write and"
                " pull-requests: write",
            )
        return response.json()


def _is_ours(comment: Mapping[str, Any]) -> bool:
    """Whether a comment is the one that we keep, and not somebody's who quotes it."""
    by_us: bool = comment["user"]["type"] == "Bot" and comment["body"].startswith(MARKER)
    return by_us


def read_pictures(folder: Path) -> dict[str, bytes]:
    """The pictures in a folder that the report may show.

    Args:
        folder: The folder.

    Returns:
        PNGs by file name; others, and those that are too large or too many, are left out.
    """
    pictures = {}
    for path in sorted(folder.glob("*.png"))[:_MOST]:
        if path.is_file() and not path.is_symlink() and path.stat().st_size <= _LARGEST:
            content = path.read_bytes()
            if content.startswith(_PNG):
                pictures[path.name] = content
    return pictures


def comment(report: str, pictures: Mapping[str, str]) -> str:
    """The text of the comment.

    Args:
        report: The report; pictures are links to files beside it.
        pictures: Where they are, by file name; what is not there is named and not shown.

    Returns:
        Markdown.
    """

    def linked(found: re.Match[str]) -> str:
        url = pictures.get(found[2])
        return f"![{found[1]}]({url})" if url else f"(no picture of {found[1]})"

    text = f"{MARKER}\n{_PICTURE.sub(linked, report)}"
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST].rpartition(chr(10))[0]}\n\n…"


def publish(github: GitHub, folder: Path, *, number: int, pages: str) -> str:
    """Put a report on a pull request.

    Args:
        github: The repository.
        folder: What `deployments.github.pull_request` has written.
        number: The pull request.
        pages: Address of the repository's pages.

    Returns:
        The comment's address.
    """
    places = {f"pull/{number}/{name}": content for name, content in read_pictures(folder).items()}
    urls = {}
    if places:
        commit = github.commit(places, f"Pictures of pull request {number}")
        urls = {Path(path).name: f"{pages}/blob/{commit}/{path}?raw=true" for path in places}
    return github.upsert(number, comment((folder / _REPORT).read_text(), urls))


def main() -> int:
    """Write the comment from the command line of a job."""
    parser = argparse.ArgumentParser(prog="deployments.github.sticky_comment", description=__doc__)
    parser.add_argument("--report", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--pull-request", type=int, required=True, metavar="NUMBER")
    arguments = parser.parse_args()
    try:
        names = ("GITHUB_API_URL", "GITHUB_SERVER_URL", "GITHUB_REPOSITORY", "GITHUB_TOKEN")
        if missing := [name for name in names if not os.environ.get(name)]:
            raise ConfigurationError(
                f"not set: {', '.join(missing)}",
                state="the comment is as it was",
                next_step="run this in a job of GitHub Actions, with GITHUB_TOKEN in its env",
            )
        api, server, repository, token = (os.environ[name] for name in names)
        with GitHub(api, repository, token) as github:
            pages = f"{server}/{repository}"
            url = publish(github, arguments.report, number=arguments.pull_request, pages=pages)
    except SlipwayError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    print(url)
    return 0


if __name__ == "__main__":
    sys.exit(main())
