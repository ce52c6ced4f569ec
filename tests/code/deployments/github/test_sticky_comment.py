"""The comment on a pull request, written to a small GitHub, its pictures to a repository."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from deployments.ci.comment import MARKER, comment_text, read_pictures
from deployments.github.pictures import BRANCH, commit_pictures
from tasks.core.settings import CHECKOUT
from tasks.repository.git import Git

PNG = b"\x89PNG\r\n\x1a\n"
TOKEN = "not-a-secret"


class SmallGitHub(ThreadingHTTPServer):
    """The comments of GitHub's API for one pull request, and a bare repository."""

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.comments: list[dict[str, Any]] = []
        self.forbidden = False
        self.server_url = f"file://{folder}"
        self.repository = folder / "me" / "slipway.git"
        self.git = Git(self.repository)
        self.repository.mkdir(parents=True)
        self.git("init", "--quiet", "--bare")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def add(self, body: str, kind: str = "Bot") -> dict[str, Any]:
        """Add a comment of a bot or a user."""
        number = len(self.comments) + 1
        comment = {"id": number, "body": body, "user": {"type": kind}}
        self.comments.append({**comment, "html_url": f"{self.url}/comment/{number}"})
        return self.comments[-1]

    def tip(self) -> str:
        return self.git("rev-parse", f"refs/heads/{BRANCH}")

    def files(self, commit: str) -> dict[str, str]:
        """Return the content of the pictures in a commit, without the signature of a PNG."""
        names = self.git("ls-tree", "-r", "--name-only", commit).splitlines()
        contents = {name: self.git.run("show", f"{commit}:{name}").stdout for name in names}
        return {name: content[-6:] for name, content in contents.items()}

    def answer(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        if self.forbidden and method != "GET":
            return 403, {"message": "Resource not accessible by integration"}
        if match := re.fullmatch(r"/issues/7/comments\?per_page=(\d+)&page=(\d+)", path):
            size, page = int(match[1]), int(match[2])
            return 200, self.comments[(page - 1) * size : page * size]
        if (method, path) == ("POST", "/issues/7/comments"):
            return 201, self.add(body["body"])
        match = re.fullmatch(r"/issues/comments/(\d+)", path)
        assert match
        comment = self.comments[int(match[1]) - 1]
        comment.update(body)
        return 200, comment


class _Handler(BaseHTTPRequestHandler):
    server: SmallGitHub

    def _handle(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = self.path.removeprefix("/repos/me/slipway")
        if self.headers["Authorization"] == f"Bearer {TOKEN}":
            code, answer = self.server.answer(self.command, path, json.loads(body or "null"))
        else:
            code, answer = 401, {"message": "Bad credentials"}
        content = json.dumps(answer).encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_PATCH = _handle

    def log_message(self, format: str, *args: object) -> None:
        """Nobody reads it."""


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def small(tmp_path: Path) -> Iterator[SmallGitHub]:
    with SmallGitHub(tmp_path / "github") as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "report"
    folder.mkdir()
    (folder / "report.md").write_text("## wine\n\n![Predictions](predictions.png)\n")
    (folder / "predictions.png").write_bytes(PNG + b"first!")
    return folder


def run(small: SmallGitHub, folder: Path, token: str = TOKEN) -> tuple[int, str]:
    result = subprocess.run(
        [sys.executable, "-m", "deployments.github.sticky_comment", "--report", str(folder),
         "--pull-request", "7"],
        cwd=CHECKOUT, capture_output=True, text=True, check=False,
        env={**os.environ, "GITHUB_API_URL": small.url, "GITHUB_SERVER_URL": small.server_url,
             "GITHUB_REPOSITORY": "me/slipway", "GITHUB_TOKEN": token},
    )  # fmt: skip
    return result.returncode, result.stdout + result.stderr


def test_second_report_updates_the_one_comment(small: SmallGitHub, folder: Path) -> None:
    small.add("Looks good", "User")
    small.add(f"I quote: {MARKER}", "User")
    small.add(f"{MARKER} as another account", "User")
    for _ in range(120):  # ours is on a later page
        small.add("Another bot")
    code, output = run(small, folder)
    assert code == 0, output
    first = small.tip()
    assert small.git("rev-list", first) == first, "it has no parent"
    (folder / "predictions.png").write_bytes(PNG + b"second")
    code, output = run(small, folder)
    assert code == 0, output
    ours = [comment for comment in small.comments if comment["body"].startswith(f"{MARKER}\n")]
    assert len(ours) == 1
    assert output.strip() == ours[0]["html_url"]
    tip = small.tip()
    assert small.git("rev-parse", f"{tip}^") == first
    url = f"{small.server_url}/me/slipway/blob/{tip}/pull/7/predictions.png?raw=true"
    assert f"![Predictions]({url})" in ours[0]["body"]
    assert small.files(first) == {"pull/7/predictions.png": "first!"}
    assert small.files(tip) == {"pull/7/predictions.png": "second"}
    assert small.comments[1]["body"] == f"I quote: {MARKER}"


def test_jobs_at_the_same_time_keep_the_pictures_of_each_other(small: SmallGitHub) -> None:
    def commit(number: int) -> str:
        url = f"{small.server_url}/me/slipway.git"
        return commit_pictures(url, TOKEN, {f"pull/{number}/a.png": b"number"}, f"Of {number}")

    with ThreadPoolExecutor(3) as jobs:
        commits = set(jobs.map(commit, range(3)))
    assert set(small.files(small.tip())) == {f"pull/{number}/a.png" for number in range(3)}
    assert commits == set(small.git("rev-list", small.tip()).split())


def test_token_without_the_right_to_comment_is_refused(small: SmallGitHub, folder: Path) -> None:
    small.forbidden = True
    code, output = run(small, folder)
    assert code == 1
    assert "GitHub answers 403" in output
    assert "pull-requests: write" in output
    code, output = run(small, folder, token="wrong")
    assert code == 1
    assert "GitHub answers 401" in output
    assert "Traceback" not in output


def test_token_without_the_right_to_push_is_refused(small: SmallGitHub, folder: Path) -> None:
    hook = small.repository / "hooks" / "pre-receive"
    hook.write_text("#!/bin/sh\nexit 1\n")
    hook.chmod(0o755)
    code, output = run(small, folder)
    assert code == 1
    assert "cannot read or write branch slipway-reports" in output
    assert "contents: write" in output
    assert TOKEN not in output
    assert small.comments == []


def test_only_pngs_are_taken_from_a_report(folder: Path) -> None:
    (folder / "script.png").write_text("<svg/>")
    (folder / "large.png").write_bytes(PNG + b"0" * 3_000_000)
    (folder / "link.png").symlink_to("/etc/hostname")
    (folder / "run.sh").write_text("exit")
    assert set(read_pictures(folder)) == {"predictions.png"}


def test_missing_picture_is_named_in_the_comment() -> None:
    text = comment_text("![Curve](curve.png) ![x](https://elsewhere/y.png)", {})
    assert "(no picture of Curve)" in text
    assert len(comment_text("a line\n" * 20_000, {})) < 65_536
