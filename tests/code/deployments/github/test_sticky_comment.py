"""The comment on a pull request, written over HTTP to a small GitHub that keeps what it is told."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import threading
from base64 import b64decode
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from deployments.github.sticky_comment import MARKER, GitHub, comment, read_pictures
from tasks.core.settings import CHECKOUT

PNG = b"\x89PNG\r\n\x1a\n"
TOKEN = "not-a-secret"


class SmallGitHub(ThreadingHTTPServer):
    """GitHub's API as far as comments and the objects of Git go, for one repository."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.comments: list[dict[str, Any]] = []
        self.objects: dict[str, Any] = {}
        self.refs: dict[str, str] = {}
        self.overtaken = 0
        self.forbidden = False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def say(self, body: str, kind: str = "Bot") -> dict[str, Any]:
        number = len(self.comments) + 1
        said = {"id": number, "body": body, "user": {"type": kind}}
        self.comments.append({**said, "html_url": f"{self.url}/comment/{number}"})
        return self.comments[-1]

    def keep(self, thing: Any) -> str:
        name = hashlib.sha1(json.dumps(thing, sort_keys=True).encode()).hexdigest()
        self.objects[name] = thing
        return name

    def files(self, commit: str) -> dict[str, bytes]:
        """What is in a commit."""
        tree = self.objects[self.objects[commit]["tree"]["sha"]]
        return {path: b64decode(self.objects[blob]["content"]) for path, blob in tree.items()}

    def answer(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        if self.forbidden and method != "GET":
            return 403, {"message": "Resource not accessible by integration"}
        if found := re.fullmatch(r"/issues/7/comments\?per_page=(\d+)&page=(\d+)", path):
            size, page = int(found[1]), int(found[2])
            return 200, self.comments[(page - 1) * size : page * size]
        if (method, path) == ("POST", "/issues/7/comments"):
            return 201, self.say(body["body"])
        if found := re.fullmatch(r"/issues/comments/(\d+)", path):
            said = self.comments[int(found[1]) - 1]
            said.update(body)
            return 200, said
        return self._git(method, path, body)

    def _git(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        what, _, name = path.removeprefix("/git/").partition("/")
        if what == "blobs":
            return 201, {"sha": self.keep(body)}
        if what == "trees":
            base = self.objects[body["base_tree"]] if "base_tree" in body else {}
            new = {entry["path"]: entry["sha"] for entry in body["tree"]}
            return 201, {"sha": self.keep({**base, **new})}
        if what == "commits" and method == "POST":
            assert body["tree"] in self.objects
            return 201, {"sha": self.keep({**body, "tree": {"sha": body["tree"]}})}
        if what == "commits":
            return 200, self.objects[name]
        if what == "ref":
            found = self.refs.get(name)
            return (200, {"object": {"sha": found}}) if found else (404, {"message": "Not Found"})
        if self.overtaken:  # somebody else commits at the same time
            self.overtaken -= 1
            tree = {"sha": self.keep({"theirs": self.keep({"content": ""})})}
            before = self.refs.get("heads/slipway-reports")
            theirs = {"tree": tree, "parents": [before] if before else [], "n": self.overtaken}
            self.refs["heads/slipway-reports"] = self.keep(theirs)
        name = name or body["ref"].removeprefix("refs/")
        before = self.refs.get(name)
        if self.objects[body["sha"]]["parents"] != ([before] if before else []):
            return 422, {"message": "Update is not a fast forward"}
        self.refs[name] = body["sha"]
        return 200, {}


class _Handler(BaseHTTPRequestHandler):
    server: SmallGitHub

    def _handle(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = self.path.removeprefix("/repos/me/slipway")
        if self.headers["Authorization"] == f"Bearer {TOKEN}":
            code, said = self.server.answer(self.command, path, json.loads(body) if body else None)
        else:
            code, said = 401, {"message": "Bad credentials"}
        content = json.dumps(said).encode()
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
def small() -> Iterator[SmallGitHub]:
    with SmallGitHub() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "report.md").write_text("## wine\n\n![Predictions](predictions.png)\n")
    (tmp_path / "predictions.png").write_bytes(PNG + b"first")
    return tmp_path


def run(small: SmallGitHub, folder: Path, token: str = TOKEN) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "deployments.github.sticky_comment", "--report", str(folder),
         "--pull-request", "7"],
        cwd=CHECKOUT, capture_output=True, text=True, check=False,
        env={**os.environ, "GITHUB_API_URL": small.url, "GITHUB_SERVER_URL": "https://github.com",
             "GITHUB_REPOSITORY": "me/slipway", "GITHUB_TOKEN": token},
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


def test_twice_there_is_one_comment_that_shows_the_newest(small: SmallGitHub, folder: Path) -> None:
    small.say("Looks good", "User")
    small.say(f"I quote: {MARKER}", "User")
    small.say(f"{MARKER} as another account", "User")
    for _ in range(120):  # ours is on a later page
        small.say("Another bot")
    code, output = run(small, folder)
    assert code == 0, output
    first = small.refs["heads/slipway-reports"]
    assert small.objects[first]["parents"] == []
    (folder / "predictions.png").write_bytes(PNG + b"second")
    code, output = run(small, folder)
    assert code == 0, output
    ours = [each for each in small.comments if each["body"].startswith(f"{MARKER}\n")]
    assert len(ours) == 1
    assert output.strip() == ours[0]["html_url"]
    tip = small.refs["heads/slipway-reports"]
    assert small.objects[tip]["parents"] == [first]
    url = f"https://github.com/me/slipway/blob/{tip}/pull/7/predictions.png?raw=true"
    assert f"![Predictions]({url})" in ours[0]["body"]
    assert small.files(first)["pull/7/predictions.png"] == PNG + b"first"
    assert small.files(tip)["pull/7/predictions.png"] == PNG + b"second"
    assert small.comments[1]["body"] == f"I quote: {MARKER}"


def test_pictures_of_others_stay_and_whoever_is_overtaken_tries_again(small: SmallGitHub) -> None:
    with GitHub(small.url, "me/slipway", TOKEN) as github:
        small.overtaken = 1
        github.commit({"pull/7/a.png": b"a"}, "a")
        small.overtaken = 2
        tip = github.commit({"pull/8/b.png": b"b"}, "b")
    assert set(small.files(tip)) >= {"theirs", "pull/8/b.png"}
    assert small.refs["heads/slipway-reports"] == tip


def test_a_token_that_may_not_write_is_told(small: SmallGitHub, folder: Path) -> None:
    small.forbidden = True
    code, output = run(small, folder)
    assert code == 1
    assert "GitHub answers 403" in output
    assert "pull-requests: write" in output
    code, output = run(small, folder, token="wrong")
    assert code == 1
    assert "GitHub answers 401" in output
    assert "Traceback" not in output


def test_only_pictures_are_taken_from_a_report(folder: Path, tmp_path: Path) -> None:
    (folder / "script.png").write_text("<svg/>")
    (folder / "large.png").write_bytes(PNG + b"0" * 3_000_000)
    (folder / "link.png").symlink_to("/etc/hostname")
    (folder / "run.sh").write_text("exit")
    assert set(read_pictures(folder)) == {"predictions.png"}


def test_a_picture_that_was_not_taken_is_named() -> None:
    text = comment("![Curve](curve.png) ![x](https://elsewhere/y.png)", {})
    assert "(no picture of Curve)" in text
    assert len(comment("a line\n" * 20_000, {})) < 65_536
