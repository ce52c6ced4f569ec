"""The note on a merge request, written to a small GitLab."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from deployments.ci.comment import MARKER
from deployments.gitlab.sticky_note import note_text, upload_name
from tasks.core.settings import CHECKOUT

PNG = b"\x89PNG\r\n\x1a\n"
TOKEN = "not-a-secret"
BOT, PERSON = 5, 6


class SmallGitLab(ThreadingHTTPServer):
    """The notes of one merge request in GitLab's API, and uploads of its project."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.notes: list[dict[str, Any]] = []
        self.uploads: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def add(self, body: str, author: int = PERSON) -> dict[str, Any]:
        number = len(self.notes) + 1
        self.notes.append({"id": number, "body": body, "author": {"id": author}})
        return self.notes[-1]

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, Any]:
        if (method, path) == ("GET", "/api/v4/user"):
            return 200, {"id": BOT}
        path = path.removeprefix("/api/v4/projects/12")
        if (method, path) == ("POST", "/uploads"):
            name = re.search(rb'filename="([^"]+)"', body)
            assert name
            self.uploads.append(name[1].decode())
            secret = f"{len(self.uploads):032x}"
            return 201, {"url": f"/uploads/{secret}/{self.uploads[-1]}"}
        if match := re.fullmatch(
            r"/merge_requests/7/notes\?sort=asc&per_page=(\d+)&page=(\d+)", path
        ):
            size, page = int(match[1]), int(match[2])
            return 200, self.notes[(page - 1) * size : page * size]
        if (method, path) == ("POST", "/merge_requests/7/notes"):
            return 201, self.add(json.loads(body)["body"], BOT)
        match = re.fullmatch(r"/merge_requests/7/notes/(\d+)", path)
        if method == "PUT" and match:
            self.notes[int(match[1]) - 1].update(json.loads(body))
            return 200, self.notes[int(match[1]) - 1]
        return 404, {"message": "404 Not found"}


class _Handler(BaseHTTPRequestHandler):
    server: SmallGitLab

    def _handle(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        code, answer = 401, {"message": "401 Unauthorized"}
        if self.headers["PRIVATE-TOKEN"] == TOKEN:
            code, answer = self.server.answer(self.command, self.path, body)
        content = json.dumps(answer).encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_PUT = _handle

    def log_message(self, format: str, *args: object) -> None:
        """Nobody reads it."""


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Iterator[SmallGitLab]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with SmallGitLab() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "report"
    folder.mkdir()
    text = "## wine\n\n![Predictions](predictions.png)\n\n![Curve](curve.png)\n\n/close\n"
    (folder / "report.md").write_text(text)
    (folder / "predictions.png").write_bytes(PNG + b"first!")
    (folder / "curve.png").write_bytes(PNG + b"curve")
    return folder


def run(small: SmallGitLab, folder: Path, token: str = TOKEN) -> tuple[int, str]:
    project = {"CI_API_V4_URL": f"{small.url}/api/v4", "CI_MERGE_REQUEST_PROJECT_ID": "12"}
    page = {"CI_MERGE_REQUEST_PROJECT_URL": "https://gitlab.example.com/me/wine"}
    more = {"CI_MERGE_REQUEST_IID": "7", "SLIPWAY_REPORT_TOKEN": token}
    result = subprocess.run(
        [sys.executable, "-m", "deployments.gitlab.sticky_note", "--report", str(folder)],
        cwd=CHECKOUT, capture_output=True, text=True, check=False,
        env={**os.environ, **project, **page, **more},
    )  # fmt: skip
    return result.returncode, result.stdout + result.stderr


def test_second_report_updates_the_one_note_and_uploads_new_pictures_alone(
    small: SmallGitLab, folder: Path
) -> None:
    small.add(f"{MARKER} as another account")
    small.add(f"I quote: {MARKER}", BOT)
    for _ in range(120):  # ours is on a later page
        small.add("Looks good")
    code, output = run(small, folder)
    assert code == 0, output
    (ours,) = [note for note in small.notes if note["body"].startswith(f"{MARKER}\n")]
    first = ours["body"]
    (folder / "predictions.png").write_bytes(PNG + b"second")
    code, output = run(small, folder)
    assert code == 0, output
    assert len(small.notes) == 123
    page = "https://gitlab.example.com/me/wine/-/merge_requests/7"
    assert output.strip() == f"{page}#note_{ours['id']}"
    contents = (b"curve", b"first!", b"second")
    curve, former, newer = (upload_name(PNG + content) for content in contents)
    assert small.uploads == [curve, former, newer]
    assert f"![Curve](/uploads/{1:032x}/{curve})" in first
    assert f"![Curve](/uploads/{1:032x}/{curve})" in ours["body"]
    assert f"![Predictions](/uploads/{3:032x}/{newer})" in ours["body"]
    assert former not in ours["body"]
    assert "\n/close" not in ours["body"]


def test_token_that_may_not_write_is_refused(small: SmallGitLab, folder: Path) -> None:
    code, output = run(small, folder, token="wrong")
    assert code == 1
    assert "GitLab answers 401" in output
    assert "give the job a project access token in SLIPWAY_REPORT_TOKEN" in output
    assert "wrong" not in output
    assert "Traceback" not in output
    code, output = run(small, folder, token="")
    assert code == 1
    assert "not set: SLIPWAY_REPORT_TOKEN" in output
    assert small.notes == []


@pytest.mark.parametrize("line", ["/merge", "  /assign @me", "> /close", ">\t> /label ~x"])
def test_report_gives_gitlab_no_commands(line: str) -> None:
    text = note_text(f"words\n{line}\n| a/b | /c |", {})
    assert not [row for row in text.splitlines() if row.strip("> \t").startswith("/")]
    assert "| a/b | /c |" in text
