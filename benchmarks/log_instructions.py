"""Answer requests in one process, so that a tool can count instructions: with the log or without.

Time tells little on a busy machine, but the number of instructions is the same each time. Run with
a model's own Python, in the root of the checkout, once for each number of requests:

    PYTHONHASHSEED=0 valgrind --tool=cachegrind --cache-sim=yes PYTHON -m \
        benchmarks.log_instructions BUNDLE with 320

The difference between 1,920 and 320 requests, divided by 1,600, is what a request takes. The log's
thread is included: it writes everything at the end.
"""

import asyncio
import json
import sys
import tempfile
from pathlib import Path

from benchmarks.log_cost import ask
from serving import prediction_log
from serving.app import create_app
from serving.bundle import read_bundle
from serving.settings import Limits, LogSettings

CLIENTS = 32
LONG = 3600.0  # seconds; under the tool a program takes fifty times as long


async def main(folder: Path, *, is_logged: bool, requests: int) -> None:
    """Answer a number of requests, of clients that ask at the same time."""
    prediction_log.WAIT_SECONDS = LONG
    golden = json.loads(next(folder.glob("*.golden.json")).read_text())
    body = json.dumps({"data": {"values": golden["inputs"][:1]}}).encode()
    with tempfile.TemporaryDirectory() as spool:
        settings = LogSettings(folder=Path(spool)) if is_logged else None
        app = create_app(read_bundle(folder), Limits(), log_settings=settings)
        service = app.state.service
        service.load()
        if service.log is not None:
            service.log.start()
        for _ in range(requests // CLIENTS):
            # Each body is one of its own, as from the network.
            bodies = [bytes(bytearray(body)) for _ in range(CLIENTS)]
            await asyncio.gather(*(ask(app, content) for content in bodies))
        service.close()


if __name__ == "__main__":
    bundle, choice, number = sys.argv[1:]
    asyncio.run(main(Path(bundle), is_logged=choice == "with", requests=int(number)))
