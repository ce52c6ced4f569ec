"""Boxes on the hosts of a Dask cluster, beside its workers, which run no code of a model."""

from __future__ import annotations

import asyncio
import io
import json
import shutil
import subprocess
import tarfile
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from distributed import WorkerPlugin

from tasks.core.errors import SlipwayError
from tasks.core.settings import Settings
from tasks.package.environment import Requirements, install_runtime
from tasks.sandbox.box import start_in
from tasks.scoring.boxes import MODULE, make_box
from tasks.scoring.jobs import remove_old
from tasks.scoring.messages import read_content, write_message

_STATE = "nothing was published"
_UNUSED_SECONDS = 1800.0


class WorkerFailure(Exception):
    """A box that has ended, or that this host cannot make."""


class Boxes(WorkerPlugin):  # type: ignore[misc]
    """The boxes of one job on one worker, one a thread; each has the model loaded.

    Args:
        content: `key` that no other job has, paths of the `bundle` and the `description`,
            `requirements` of the runtime, and version of `python`.
    """

    def __init__(self, content: Mapping[str, Any]) -> None:
        self.name = f"slipway-score-{content['key']}"
        self._requirements = Requirements(*content["requirements"])
        self._python = content["python"]
        self._job = json.loads(Path(content["description"]).read_text())
        self._bundle = _pack(Path(content["bundle"]))

    def setup(self, worker: Any) -> None:
        """Begin on a worker; what a box needs is made when the first chunk comes."""
        self._lock = threading.Lock()
        self._idle: list[subprocess.Popen[bytes]] = []
        self._boxes: list[subprocess.Popen[bytes]] = []
        self._runtime: Path | None = None
        scores = Settings().scores
        scores.mkdir(parents=True, exist_ok=True)
        remove_old(scores, "")  # of workers that were killed
        self._folder = Path(tempfile.mkdtemp(prefix=f"{self.name}-", dir=scores))
        self._used = time.monotonic()
        threading.Thread(target=self._end_unused, daemon=True).start()

    def teardown(self, worker: Any) -> None:
        """End the boxes, and remove what was made for them."""
        with self._lock:
            for box in self._boxes:
                box.kill()
                box.wait()
            self._boxes.clear()
            self._idle.clear()
            self._runtime = None
            shutil.rmtree(self._folder, ignore_errors=True)

    def _end_unused(self) -> None:
        """End the boxes of a run that was killed, and never says that it has ended."""
        while time.monotonic() - self._used < _UNUSED_SECONDS:
            time.sleep(_UNUSED_SECONDS / 10)
        self.teardown(None)

    def score(self, number: int, chunk: bytes) -> bytes:
        """Score a chunk in a box.

        Raises:
            WorkerFailure: The box has ended, or cannot be made.
        """
        self._used = time.monotonic()
        with self._lock:
            box = self._idle.pop() if self._idle else self._start()
        assert box.stdin
        assert box.stdout
        try:
            write_message(box.stdin, number, chunk)
            _, reply = read_content(box.stdout, box.stdout.readline())
        except (OSError, ValueError):
            box.kill()
            raise WorkerFailure(f"a box ended with exit code {box.wait()}") from None
        with self._lock:
            self._idle.append(box)
        return reply

    def _start(self) -> subprocess.Popen[bytes]:
        bundle = self._folder / "bundle"
        try:
            if self._runtime is None:
                install = install_runtime(self._requirements, self._python, _STATE)
                self._runtime = asyncio.run(install)
                with tarfile.open(fileobj=io.BytesIO(self._bundle)) as archive:
                    archive.extractall(bundle, filter="data")
            place = self._folder / f"box-{len(self._boxes)}"
            work, description = place / "work", place / "job.json"
            for folder in (work, place / "tmp"):
                folder.mkdir(parents=True)
            own = {"bundle": str(bundle), "folder": str(work), "files": {}}
            description.write_text(json.dumps(self._job | own))
            argv = [str(self._runtime), "-m", f"{MODULE}.remote", str(description)]
            box = make_box(work, bundle, self._runtime, description)
            process = subprocess.Popen(
                start_in(box, argv), stdin=subprocess.PIPE, stdout=subprocess.PIPE
            )
        except (SlipwayError, OSError) as error:
            raise WorkerFailure(f"no box can be made on this host: {error}") from None
        self._boxes.append(process)
        return process


def _pack(folder: Path) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as archive:
        archive.add(
            folder, ".", filter=lambda entry: None if "__pycache__" in entry.name else entry
        )
    return content.getvalue()
