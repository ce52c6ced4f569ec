"""Large models and many files: CPU and memory of `save` and `push`, and files beside `aws s3 cp`.

Run by `make bench ONLY=large`. `save` runs in a copy of the repository, on models with an array of
random numbers, of scikit-learn's own class and of one in model/custom. Objects go to an S3 server
of the local stack, which this program starts alone.
"""

import asyncio
import hashlib
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import uv

from benchmarks.object_server import Store, serve_store
from benchmarks.report import Goal, Report, Table
from benchmarks.servers import run
from deployments.local import object_store
from tasks.bucket import transfer
from tasks.bucket.bucket import Bucket
from tasks.bucket.objects import StoredObject
from tasks.bucket.requests import fetch_object, send_object
from tasks.bucket.verification import Verifier
from tasks.core.settings import CHECKOUT

SIZES = (1, 10, 50)  # MB, of models with code of one's own and without
LARGE = 500  # MB
FILES, FILE_BYTES = 2_000, 4_096
PASSES = int(os.environ.get("BENCHMARK_PASSES", "3"))
MOST_MEMORY, MOST_CPU, MOST_SECONDS = 1.3, 2.0, 1.5
AWS = "awscli==1.46.3"
CUSTOM = """
from sklearn.linear_model import LogisticRegression


class Own(LogisticRegression):
    pass
"""
MAKE = """
import pickle, sys
import numpy as np
from sklearn.linear_model import LogisticRegression
from model.custom.own import Own
from model.files import TRAIN, read_split
rows = read_split(TRAIN, "target")
kind = Own if sys.argv[1] == "own" else LogisticRegression
model = kind(max_iter=20).fit(rows.features, rows.target)
model.ballast_ = np.random.default_rng(0).random(int(float(sys.argv[2]) * 1e6 / 8))
with open("model/estimator.pkl", "wb") as file:
    pickle.dump(model, file, protocol=5)
"""


@dataclass(frozen=True)
class Use:
    """Time and memory of a process."""

    cpu: float  # seconds
    seconds: float
    memory: float  # MB, the most


def measure() -> Report:
    """Save, push and verify large models, and transfer many small files beside `aws s3 cp`."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        saved, largest = measure_save(folder / "repository")
        with serve_store(folder / "store") as store:
            pushed, reads = measure_push(store, folder / "cache")
            files = measure_files(store, folder)
    return make_report(saved, largest, pushed, reads, files)


def measure_save(repository: Path) -> tuple[dict[tuple[int, str], float], Use]:
    """Return the CPU seconds of `save` by size and kind, and its use for the large model."""
    python = prepare_repository(repository)
    argv = [python, "-m", "model.save"]
    make = [python, "-W", "ignore", "-c", MAKE]
    cpu: dict[tuple[int, str], list[float]] = {}
    for _ in range(PASSES):
        for size in SIZES:
            for kind in ("plain", "own"):
                subprocess.run([*make, kind, str(size)], cwd=repository, check=True)
                cpu.setdefault((size, kind), []).append(run_process(argv, repository).cpu)
    subprocess.run([*make, "own", str(LARGE)], cwd=repository, check=True)
    largest = run_process(argv, repository)
    return {name: statistics.median(values) for name, values in cpu.items()}, largest


def prepare_repository(repository: Path) -> Path:
    """Copy what the stages of the model need, and run those before `train`; return the Python."""
    skip = shutil.ignore_patterns(".venv", "__pycache__", "estimator.pkl")
    shutil.copytree(CHECKOUT / "model", repository / "model", ignore=skip)
    shutil.copy(CHECKOUT / "tests" / "template" / "params.yaml", repository)
    for name in ("data", "reports"):
        (repository / name).mkdir()
    (repository / "model" / "custom" / "own.py").write_text(CUSTOM)
    python = CHECKOUT / "model" / ".venv" / "bin" / "python"
    for stage in ("fetch", "process"):
        subprocess.run([python, "-m", f"model.{stage}"], cwd=repository, check=True)
    return python


def run_process(argv: list[Any], folder: Path) -> Use:
    """Run a program to its end; return what it and the programs that it started used."""
    start = time.monotonic()
    process = subprocess.Popen(argv, cwd=folder)
    return wait_for(process.pid, start)


def wait_for(process: int, start: float) -> Use:
    """Wait for the end of a child."""
    _, status, usage = os.wait4(process, 0)
    if status:
        sys.exit("the benchmark failed")
    cpu = usage.ru_utime + usage.ru_stime
    return Use(cpu, time.monotonic() - start, usage.ru_maxrss * 1024 / 1e6)


def run_fork(function: Callable[[], Coroutine[Any, Any, None]]) -> Use:
    """Run a function in a process of its own."""
    start = time.monotonic()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            asyncio.run(function())
            code = 0
        finally:
            os._exit(code)
    return wait_for(child, start)


def cache_object(cache: Path, content: bytes) -> StoredObject:
    """Put an object into a cache."""
    md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
    stored = StoredObject(md5, len(content), md5, "train")
    file = cache / stored.key
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    return stored


def measure_push(store: Store, cache: Path) -> tuple[Use, int]:
    """Return the use of a push of the large model, and how often it was read from the store."""
    made: list[StoredObject] = []
    names = cache.parent / "name"

    async def make() -> None:  # not in this process, whose memory the next one inherits
        names.write_text(cache_object(cache, os.urandom(LARGE * 1_000_000)).md5)

    run_fork(make)
    made.append(StoredObject(names.read_text(), LARGE * 1_000_000, "model", "train"))
    reads = cache.parent / "reads"
    reads.touch()

    def note(**_: Any) -> None:
        with reads.open("a") as file:
            file.write("x")

    store.client.meta.events.register("before-call.s3.GetObject", note)
    use = run_fork(partial(push, store.bucket("large"), cache, made))
    return use, len(reads.read_text())


async def push(bucket: Bucket, cache: Path, objects: list[StoredObject]) -> None:
    """Send objects as the flow `push` does: compare, send, compare again."""
    verifier = Verifier(bucket, cache)
    missing = await verifier.find_faults(objects)
    await transfer.for_each([*missing], send_object, bucket, cache, {})
    if await verifier.find_faults(objects):
        raise RuntimeError("objects are wrong after the push")


def measure_files(store: Store, folder: Path) -> dict[str, list[tuple[Use, Use]]]:
    """Return, for each direction and pass, the use of Slipway and that of `aws s3 cp`."""
    environment = folder / "aws"
    run(uv.find_uv_bin(), "venv", "--quiet", environment)
    aws = environment / "bin" / "python"
    run(uv.find_uv_bin(), "pip", "install", "--quiet", "--python", aws, AWS)
    identity = store.credentials.read_write
    os.environ |= {
        "AWS_ACCESS_KEY_ID": identity.key_id,
        "AWS_SECRET_ACCESS_KEY": identity.secret,
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    cache, files = folder / "small", folder / "files"
    objects = [cache_object(cache, os.urandom(FILE_BYTES)) for _ in range(FILES)]
    files.mkdir()
    for stored in objects:
        shutil.copy(cache / stored.key, files / stored.md5)
    copy = [aws, environment / "bin" / "aws", "--endpoint-url", store.url, "s3", "cp"]
    copy += ["--recursive", "--quiet"]
    uses: dict[str, list[tuple[Use, Use]]] = {"push": [], "pull": []}
    for number in range(PASSES):
        bucket, other = store.bucket(f"slipway{number}"), f"s3://{object_store.BUCKET}/aws{number}"
        pushed = run_fork(partial(push, bucket, cache, objects))
        uses["push"].append((pushed, run_process([*copy, files, other], folder)))
        to = folder / f"pulled{number}"
        pulled = run_fork(partial(transfer.for_each, objects, fetch_object, bucket, to))
        uses["pull"].append((pulled, run_process([*copy, other, folder / f"{number}"], folder)))
    return uses


def make_report(
    saved: dict[tuple[int, str], float],
    largest: Use,
    pushed: Use,
    reads: int,
    files: dict[str, list[tuple[Use, Use]]],
) -> Report:
    """Make tables and goals."""
    rows = []
    for size in SIZES:
        plain, own = saved[size, "plain"], saved[size, "own"]
        rows.append([f"{size} MB", f"{plain:.1f}", f"{own:.1f}", f"{own / plain:.2f}"])
    ratios = {
        name: statistics.median(own.seconds / aws.seconds for own, aws in pairs)
        for name, pairs in files.items()
    }
    cpu = {
        name: statistics.median(own.cpu / aws.cpu for own, aws in pairs)
        for name, pairs in files.items()
    }
    worst = max(saved[size, "own"] / saved[size, "plain"] for size in SIZES)
    memory = {"save": largest.memory / LARGE, "push": pushed.memory / LARGE}
    return Report(
        method=[
            "`save`: the stage alone, CPU seconds, median; memory: the most of one process.",
            f"`push` and pull: {FILES} files of {FILE_BYTES} bytes, without a flow around it.",
            "Ratios to `aws s3 cp --recursive` in turn, with its start; median.",
        ],
        tables=[
            Table("CPU of save, seconds", ["model", "without", "with own code", "ratio"], rows),
            Table(
                f"{FILES} files beside aws s3 cp",
                ["direction", "ratio of seconds", "ratio of CPU"],
                [[name, f"{ratios[name]:.2f}", f"{cpu[name]:.2f}"] for name in files],
            ),
        ],
        goals=[
            Goal(
                "CPU of save with own code", f"<= {MOST_CPU} x", f"{worst:.2f}", worst <= MOST_CPU
            ),
            *(
                Goal(
                    f"memory of {name}", f"<= {MOST_MEMORY} x", f"{value:.2f}", value <= MOST_MEMORY
                )
                for name, value in memory.items()
            ),
            Goal("objects read after a push", "0", str(reads), reads == 0),
            *(
                Goal(
                    f"{name}, seconds",
                    f"<= {MOST_SECONDS} x",
                    f"{value:.2f}",
                    value <= MOST_SECONDS,
                )
                for name, value in ratios.items()
            ),
        ],
    )
