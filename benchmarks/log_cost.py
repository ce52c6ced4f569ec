"""CPU time of a request with the prediction log and without, in one process, without HTTP.

`benchmarks.prediction_log` runs it with a model's own Python: arguments are BUNDLE PASSES CLIENTS
SEED. Three applications are asked in turn, by as many clients at the same time: one with the log,
two without, whose difference is the noise. Time is that of the thread that answers; that of the
log's own thread follows.
"""

import asyncio
import json
import random
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from serving.app import create_app
from serving.bundle import read_bundle
from serving.settings import Limits, LogSettings

ROUNDS = 4  # of one request from each client, in a pass


async def ask(app: Any, body: bytes) -> None:
    """Have an application answer one request."""
    answers: list[Any] = []
    messages = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Any:
        return messages.pop()

    async def send(message: Any) -> None:
        answers.append(message)

    scope = {
        "type": "http", "method": "POST", "path": "/predict", "raw_path": b"/predict",
        "query_string": b"", "headers": [(b"content-type", b"application/json")],
        "http_version": "1.1", "scheme": "http", "server": ("localhost", 1), "root_path": "",
        "client": ("localhost", 2), "asgi": {"version": "3.0"},
    }  # fmt: skip
    await app(scope, receive, send)
    if answers[0]["status"] != 200:
        raise RuntimeError(answers)


def writer_seconds() -> float:
    """Return the CPU time of the log's thread."""
    (thread,) = [thread for thread in threading.enumerate() if thread.name == "prediction-log"]
    schedstat = Path(f"/proc/self/task/{thread.native_id}/schedstat").read_text()
    return int(schedstat.split()[0]) / 1e9


async def main(folder: Path, passes: int, clients: int, seed: int) -> None:
    """Measure, and print a line."""
    golden = json.loads(next(folder.glob("*.golden.json")).read_text())
    body = json.dumps({"data": {"values": golden["inputs"][:1]}}).encode()
    with tempfile.TemporaryDirectory() as spool:
        logged = LogSettings(folder=Path(spool))
        settings = {"without": None, "without again": None, "with": logged}
        apps = {
            name: create_app(read_bundle(folder), Limits(), log_settings=log)
            for name, log in settings.items()
        }
        for app in apps.values():
            app.state.service.load()
        apps["with"].state.service.log.start()
        times: dict[str, list[float]] = {name: [] for name in apps}
        order = random.Random(seed)
        for number in range(passes + 1):
            for name in order.sample([*apps], len(apps)):
                begin = time.thread_time()
                for _ in range(ROUNDS):
                    await asyncio.gather(*(ask(apps[name], body) for _ in range(clients)))
                if number:  # the first is to warm up
                    times[name].append(1e6 * (time.thread_time() - begin) / (ROUNDS * clients))
        await asyncio.sleep(1)  # the log is written
        writer = 1e6 * writer_seconds() / (ROUNDS * clients * (passes + 1))
        apps["with"].state.service.close()
    base = times["without"]
    line = f"without {statistics.median(base):.1f}"
    for name in ("without again", "with"):
        ratios = [value / other for value, other in zip(times[name], base, strict=True)]
        line += f" | {name} {statistics.median(times[name]):.1f} ratio "
        line += f"{statistics.median(ratios):.3f}"
    print(f"{line} | the log's thread {writer:.1f}")


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), *map(int, sys.argv[2:])))
