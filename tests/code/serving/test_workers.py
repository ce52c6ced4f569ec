"""Several processes of one server: what is added up, a death, a drain, a stop."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import psutil

from serving.settings import Limits
from tests.code.serving.running import ROOT
from tests.code.serving.test_operations import numbers, wait_until

_ROW = numbers((1, 1))
_SLOW = numbers((2000, 1), *[(0, 0)] * 40)  # 1 s
_TWO = {"SLIPWAY_WORKERS": "2"}


def list_workers(server):
    return {worker.pid for worker in psutil.Process(server.process.pid).children()}


def read_metric(server, name):
    text = httpx.get(f"{server.url}/metrics").text
    values = re.findall(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
    return float(values[0]) if values else 0.0


def ask_all(server, count):
    """Ask on a new connection each time, several at once; return the answers' ids."""
    with ThreadPoolExecutor(4) as clients:
        answers = list(clients.map(lambda _: server.post("/predict", _ROW), range(count)))
    assert {answer.status_code for answer in answers} == {200}
    return {answer.headers["x-request-id"] for answer in answers}


def test_workers_are_one_server(start, bundles, tmp_path):
    log = {"SLIPWAY_LOG": '{"share": 1.0}', "SLIPWAY_LOG_FOLDER": str(tmp_path)}
    with start(bundles / "moody", variables=_TWO | log) as server:
        first = list_workers(server)
        assert len(first) == 2
        ask_all(server, 40)
        count = 'slipway_serving_requests_total{route="/predict",status="200"}'
        assert {read_metric(server, count) for _ in range(6)} == {40}
        assert read_metric(server, "slipway_serving_ready") == 1
        assert read_metric(server, "process_cpu_seconds_total") > 0

        os.kill(min(first), signal.SIGKILL)
        wait_until(lambda: len(list_workers(server) - {min(first)}) == 2)
        wait_until(lambda: read_metric(server, "slipway_serving_worker_restarts_total") == 1)
        wait_until(lambda: server.log.count("moody is ready") == 4)  # parent, two, the new one
        identifiers = ask_all(server, 40)
        assert len(identifiers) == 40, "two workers gave requests the same id"
        # What the dead one had counted still counts, and what it was doing does not.
        assert read_metric(server, count) == 80
        assert read_metric(server, "slipway_serving_in_flight_requests") == 1

        server.process.send_signal(signal.SIGUSR1)
        with httpx.Client(base_url=server.url) as client:
            wait_until(lambda: client.get("/healthz").headers.get("connection") == "close")
        answers = []
        threads = [
            threading.Thread(target=lambda: answers.append(server.post("/predict", _SLOW)))
            for _ in range(2)
        ]
        for thread in threads:
            thread.start()
        wait_until(lambda: read_metric(server, "slipway_serving_in_flight_requests") == 3)
        last = list_workers(server)
        server.process.send_signal(signal.SIGTERM)
        for thread in threads:
            thread.join()
        assert server.process.wait(20) == 0
    assert [answer.status_code for answer in answers] == [200, 200]
    assert not any(psutil.pid_exists(worker) for worker in last)
    identifiers |= {answer.headers["x-request-id"] for answer in answers}
    lines = [line for file in tmp_path.glob("*.jsonl") for line in file.read_text().splitlines()]
    recorded = [json.loads(line)["id"] for line in lines]
    assert identifiers <= {*recorded}
    assert len(recorded) == len({*recorded})
    assert "Traceback" not in server.log


def test_workers_stop_when_their_parent_is_gone(start, bundles, tmp_path):
    # A parent that is killed leaves its folder of metrics.
    with start(bundles / "labels", variables=_TWO | {"TMPDIR": str(tmp_path)}) as server:
        workers = list_workers(server)
        server.process.kill()
        deadline = time.monotonic() + 20
        while any(map(psutil.pid_exists, workers)):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        with contextlib.suppress(httpx.TransportError):
            raise AssertionError(httpx.get(f"{server.url}/healthz"))


_PRINT = """
import os, tempfile
from serving.spool import StandardOutput
with tempfile.TemporaryFile() as lock:
    children = [os.fork()]
    letter = b"a" if children[0] else b"b"
    output = StandardOutput(lock.fileno())
    for _ in range(20):
        output.write("", letter * 200_000 + b"\\n")
    if children[0]:
        os.wait()
"""


def test_records_of_two_workers_do_not_mix_on_standard_output():
    printed = subprocess.run(
        [sys.executable, "-c", _PRINT], cwd=ROOT, stdout=subprocess.PIPE, check=True
    ).stdout
    lines = printed.splitlines()
    assert len(lines) == 40
    assert {(len(line), line[:1], len({*line})) for line in lines} == {
        (200_000, b"a", 1), (200_000, b"b", 1),
    }  # fmt: skip


def test_limits_of_a_server_are_split_among_its_workers():
    limits = Limits(workers=4, threads=2, queue=16, connections=1000, max_rows=500)
    part = limits.split()
    assert (part.threads, part.queue, part.connections) == (1, 4, 250)
    assert part.max_rows == 500
    assert Limits().split() == Limits()
