"""Releases and rollbacks under load: is any request lost, or answered by the wrong model?

`make bench ONLY=switching`. A stack of its own has two versions of the demo's model. Clients with
keep-alive connections ask through the proxy while one version takes the other's place, by releases
and rollbacks in turn. Each answer is checked: status 200, the prediction of one of the two versions
for this row, and where the answer names its model (`/invocations`), the prediction of that one.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import select
import statistics
import subprocess
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from benchmarks.report import Goal, Report, Table
from deployments.local.stack import Stack
from deployments.prefect_api.client import PrefectAPI
from tasks.core.errors import TransientError

_CLIENTS = 16
_REQUESTS = 105_000
_SWITCHES = 20
_RUN_SECONDS = 1800.0
_LOOK_SECONDS = 0.5
_ANSWER_SECONDS = 60.0  # a client waits no longer: a request without an answer by then is lost
_TOLERANCE = 1e-6  # as golden predictions are compared
_HEADER = "X-Amzn-SageMaker-Custom-Attributes"  # names the method, and in answers the model
_METHOD = "method=predict_proba"
_JSON = {"Content-Type": "application/json"}
_PATHS = ("/predict_proba", "/invocations")
# A model of which the probabilities differ from the other's.
_OTHER = {"train.grid.C": [0.1], "train.grid.gamma": ["scale"], "train.cv": 2}
_FIRST = {"train.grid.C": [10.0], "train.grid.gamma": ["scale"], "train.cv": 2}


class Load:
    """Clients that never stop asking, and what was wrong with their answers.

    Args:
        url: Of the proxy.
        rows: Of which each request has one, in turn.
        right: The right answers to the rows, by the model file's MD5.
    """

    def __init__(self, url: str, rows: Sequence[Any], right: Mapping[str, Sequence[Any]]) -> None:
        self._url, self._rows, self._right = url, rows, right
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._ask, args=(number,)) for number in range(_CLIENTS)
        ]
        self._counts: list[Counter[str]] = [Counter() for _ in self._threads]

    @property
    def counts(self) -> Counter[str]:
        """The number of answers, by what they are."""
        return sum(self._counts, Counter())

    def _ask(self, number: int) -> None:
        counts = self._counts[number]
        client = HTTPConnection(urlsplit(self._url).netloc, timeout=_ANSWER_SECONDS)
        bodies = [_make_body(row) for row in self._rows]
        with contextlib.closing(client):
            turn = number
            while not self._stop.is_set():
                turn += 1
                row, path = turn % len(bodies), _PATHS[turn // len(bodies) % len(_PATHS)]
                if client.sock and select.select([client.sock], [], [], 0)[0]:
                    client.close()  # closed between two requests, as it may be
                    counts["connections closed at rest"] += 1
                try:
                    client.request("POST", path, bodies[row], {**_JSON, _HEADER: _METHOD})
                    answer = client.getresponse()
                    content, status = answer.read(), answer.status
                except (OSError, HTTPException) as error:
                    counts[f"lost: {type(error).__name__}"] += 1
                    client.close()
                    continue
                if status != 200:
                    counts[f"lost: status {status}"] += 1
                    continue
                counts[self._judge(row, path, content, answer.headers.get(_HEADER, ""))] += 1

    def _judge(self, row: int, path: str, content: bytes, header: str) -> str:
        md5 = header.rpartition("md5=")[2]
        if path == "/invocations" and md5 not in self._right:
            return "wrong: another model"
        expected = [self._right[md5]] if md5 else self._right.values()
        predicted = json.loads(content)
        if any(_is_same(predicted, answers[row]) for answers in expected):
            return f"right, of {md5[:8]}" if md5 else "right, of one of the two"
        return "wrong: another prediction"

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


def _make_body(row: Any) -> bytes:
    return json.dumps({"data": {"values": [row]}}).encode()


def _is_same(predicted: Any, expected: Any) -> bool:
    (shares,), (right,) = predicted, expected
    return len(shares) == len(right) and all(
        math.isclose(a, b, rel_tol=_TOLERANCE, abs_tol=_TOLERANCE)
        for a, b in zip(shares, right, strict=True)
    )


class Scene:
    """A stack with two versions of a model."""

    def __init__(self, stack: Stack, api: PrefectAPI) -> None:
        self._stack, self._api = stack, api
        self.url = stack.model_url("local")

    def run(self, deployment: str, **parameters: Any) -> Mapping[str, Any]:
        """Have the worker do a run; return what is live after it."""
        run = self._api.create_run(deployment, parameters)
        deadline = time.monotonic() + _RUN_SECONDS
        while not run.finished and time.monotonic() < deadline:
            time.sleep(_LOOK_SECONDS)
            run = self._api.read_run(run.id)
        if not run.succeeded:
            raise TransientError(f"{deployment} ended {run.state}: {run.message}")
        return self.read("/version") if deployment != "retrain/retrain" else {}

    def read(self, path: str) -> Any:
        """Read JSON from the live model."""
        return json.loads(self._get(path))

    def read_batches(self) -> tuple[float, float]:
        """Return how many small requests the live server has answered, and in how many batches."""
        values = {}
        for line in self._get("/metrics").decode().splitlines():
            name, _, value = line.rpartition(" ")
            values[name] = value
        name = "slipway_serving_batch_requests"
        return float(values[f"{name}_sum"]), float(values[f"{name}_count"])

    def read_golden_rows(self) -> list[Any]:
        """Return the golden rows of main's model."""
        command = ["git", "-C", str(self._stack.origin), "show", "main:model/wine.golden.json"]
        golden = subprocess.run(command, check=True, capture_output=True).stdout
        rows: list[Any] = json.loads(golden)["inputs"]
        return rows

    def predict(self, rows: Sequence[Any]) -> list[Any]:
        """Ask the live model for each row alone, beside no others."""
        client = HTTPConnection(urlsplit(self.url).netloc, timeout=_ANSWER_SECONDS)
        answers = []
        with contextlib.closing(client):
            for row in rows:
                client.request("POST", _PATHS[0], _make_body(row), _JSON)
                answers.append(json.loads(client.getresponse().read()))
        return answers

    def _get(self, path: str) -> bytes:
        client = HTTPConnection(urlsplit(self.url).netloc, timeout=_ANSWER_SECONDS)
        with contextlib.closing(client):
            client.request("GET", path)
            return client.getresponse().read()


def measure() -> Report:
    """Switch between two versions under load, on a stack of its own."""
    with _open_scene() as scene:
        scene.run("retrain/retrain", overrides=_FIRST)
        first = scene.run("deploy/local")
        rows = scene.read_golden_rows()
        right = {first["md5"]: scene.predict(rows)}
        scene.run("retrain/retrain", overrides=_OTHER)
        second = scene.run("deploy/local")
        right[second["md5"]] = scene.predict(rows)
        _check_difference([*right.values()])
        scene.run("rollback/local", reason="measured")
        again = {"ref": second["commit"], "force": True, "reason": "measured"}
        small, batches, seconds = 0.0, 0.0, []
        with Load(scene.url, rows, right) as load:
            start = time.monotonic()
            for number in range(_SWITCHES):
                begin = time.monotonic()
                is_release = number % 2 == 0
                flow, parameters = ("deploy", again) if is_release else ("rollback", {})
                before = scene.read_batches()
                live = scene.run(f"{flow}/local", **parameters)
                if live["md5"] != (second if is_release else first)["md5"]:
                    raise TransientError(f"{flow} {number + 1} brought another model live")
                seconds.append(time.monotonic() - begin)
                small, batches = small + before[0], batches + before[1]
                print(f"{number + 1}. {flow}: {load.counts.total()} answers", flush=True)
            while load.counts.total() < _REQUESTS:
                time.sleep(_LOOK_SECONDS)
            lasted = time.monotonic() - start
    return _make_report(load.counts, lasted, seconds, small / max(batches, 1))


@contextlib.contextmanager
def _open_scene() -> Iterator[Scene]:
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        local = Stack(Path(folder), usual_ports=False, deploy_on_push=False)
        stack.callback(local.down, print)
        local.up(print)
        yield Scene(local, stack.enter_context(local.open_api()))


def _check_difference(answers: Sequence[Sequence[Any]]) -> None:
    """Check that each row's answer tells the versions apart."""
    if len(answers) != 2 or any(_is_same(a, b) for a, b in zip(*answers, strict=True)):
        raise TransientError("the two versions give the same predictions")


def _make_report(
    counts: Counter[str], lasted: float, seconds: Sequence[float], together: float
) -> Report:
    total = counts.total() - counts["connections closed at rest"]
    lost = sum(n for name, n in counts.items() if name.startswith("lost"))
    wrong = sum(n for name, n in counts.items() if name.startswith("wrong"))
    rows = [[name, f"{count}"] for name, count in sorted(counts.items())]
    return Report(
        method=[
            f"{_CLIENTS} clients through the proxy for {lasted:.0f} s, during {len(seconds)}"
            " releases and rollbacks in turn;",
            f"a switch took {statistics.median(seconds):.1f} s"
            f" ({min(seconds):.1f}-{max(seconds):.1f}); {together:.1f} requests in a batch"
            " on average;",
            f"load of the machine {os.getloadavg()[0]:.1f}.",
        ],
        tables=[Table("Answers", ["answer", "requests"], rows)],
        goals=[
            Goal("requests", f">= {_REQUESTS}", f"{total}", total >= _REQUESTS),
            Goal("lost", "0", f"{lost}", lost == 0),
            Goal("wrong", "0", f"{wrong}", wrong == 0),
            Goal("requests in a batch", "> 1", f"{together:.1f}", together > 1),
        ],
    )
