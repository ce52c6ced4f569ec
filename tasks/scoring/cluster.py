"""Score a job on a Dask cluster: python -m tasks.scoring.cluster SHIPMENT BOX.

It starts a box on this host, which cuts the source and writes the result, and carries its chunks to
boxes on the hosts of Dask's workers and back, without a look into them. A program of its own, so
that a cancelled run ends it. Each line on stdout is an object of JSON, as of the box.
"""

from __future__ import annotations

import contextlib
import json
import platform
import subprocess
import sys
import threading
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import IO, Any

from tasks.scoring.cluster_names import CLUSTER, VERSIONS
from tasks.scoring.messages import read_content, write_message

_CONNECT_SECONDS, _WORKER_SECONDS = 30, 60
_COMPARED = ("distributed", "cloudpickle", "msgpack")
_TRIES = 2  # of a chunk that a worker cannot score; Dask itself repeats what a killed one had


class Mismatch(Exception):
    """A cluster whose programs do not understand this one."""


def main(shipment: str, box: str) -> int:
    """Score; return the exit code."""
    from distributed import Client

    content = json.loads(Path(shipment).read_text())
    address = content.pop("address")
    try:
        with Client(address, timeout=_CONNECT_SECONDS, set_as_default=False) as client:
            client.wait_for_workers(1, timeout=_WORKER_SECONDS)
            require_same_versions(client)
            return _score(client, content, json.loads(box))
    except Mismatch as error:
        return _fail(VERSIONS, str(error))
    except Exception as error:  # Dask has no type of its own for what a network does
        return _fail(CLUSTER, f"{type(error).__name__}: {error}".splitlines()[0])


def require_same_versions(client: Any) -> None:
    """Refuse programs of other versions, of which not all can read one another's messages.

    Raises:
        Mismatch: There are some.
    """
    versions = client.get_versions()
    own = versions["client"]["packages"]
    python = platform.python_version_tuple()[:2]
    nodes = {"the scheduler": versions["scheduler"], **versions["workers"]}
    for name, node in nodes.items():
        packages = node["packages"]
        for package in _COMPARED:
            if packages[package] != own[package]:
                other = f"{package} {packages[package]}"
                raise Mismatch(f"{name} has {other}, this worker has {own[package]}")
        other_python = str(packages["python"]).split(".")[:2]
        if tuple(other_python) != python:
            raise Mismatch(f"{name} has Python {'.'.join(other_python)}, not {'.'.join(python)}")


def _score(client: Any, content: dict[str, Any], argv: list[str]) -> int:
    """Start the box, and carry its chunks until it ends; return its exit code."""
    from tasks.scoring.cluster_worker import Boxes

    boxes = Boxes(content)
    client.register_plugin(boxes)
    description = Path(content["description"])
    # Two a thread: one is worked on, and one lies ready; more would fill the memory.
    ahead = 2 * sum(client.nthreads().values())
    job = json.loads(description.read_text()) | {"ahead": ahead}
    description.write_text(json.dumps(job))
    try:
        with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as box:
            assert box.stdin
            assert box.stdout
            futures: SimpleQueue[Any] = SimpleQueue()
            arguments = (client, boxes.name, box.stdout, futures)
            reader = threading.Thread(target=_submit_chunks, args=arguments)
            reader.start()
            try:
                while (item := take_finished(client, futures)) is not None:
                    number, future = item
                    write_message(box.stdin, number, future.result())
            except BrokenPipeError:
                pass  # the box has ended, and has said why
            except BaseException:
                box.kill()
                raise
            finally:
                reader.join()
                with contextlib.suppress(BrokenPipeError):
                    box.stdin.close()
        return box.returncode
    finally:
        with contextlib.suppress(Exception):  # of a cluster that is gone
            client.unregister_worker_plugin(boxes.name)


def take_finished(client: Any, futures: SimpleQueue[Any], seconds: float = _WORKER_SECONDS) -> Any:
    """Take the next finished chunk from the queue; None at the end.

    Dask lets chunks wait for ever for a worker, where none is left.

    Raises:
        TimeoutError: The cluster has had no worker for some time.
    """
    while True:
        try:
            return futures.get(timeout=seconds)
        except Empty:
            client.wait_for_workers(1, timeout=seconds)


def _submit_chunks(client: Any, plugin: str, messages: IO[bytes], futures: Any) -> None:
    """Submit the chunks of a box, and queue each when it is done; print its other lines."""
    pending: dict[int, Any] = {}  # Dask forgets what nobody holds
    try:
        while line := messages.readline():
            if not line[:1].isdigit():
                sys.stdout.buffer.write(line)
                sys.stdout.flush()
                continue
            number, chunk = read_content(messages, line)

            def finish(future: Any, number: int = number) -> None:
                futures.put((number, pending.pop(number)))

            future = client.submit(
                score_on_worker, plugin, number, chunk, pure=False, retries=_TRIES
            )
            pending[number] = future
            future.add_done_callback(finish)
    finally:
        futures.put(None)


def score_on_worker(plugin: str, number: int, chunk: bytes) -> bytes:
    """Score a chunk on the worker that runs this; Dask sends its code, so it imports what it needs.

    The scheduler, which reads it, too, has nothing of this package.
    """
    from distributed import get_worker

    return bytes(get_worker().plugins[plugin].score(number, chunk))


def _fail(kind: str, problem: str) -> int:
    print(json.dumps({"kind": kind, "problem": problem}), flush=True)
    return 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
