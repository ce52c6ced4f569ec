"""Score the files of a job: `python -m serving.scoring JOB`.

Each line on stdout is an object of JSON. The last one has the numbers of rows, or `problem`.
"""

import contextlib
import json
import multiprocessing
import os
import shutil
import sys
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from pathlib import Path
from typing import Any

from serving.bundle import BundleError, read_bundle
from serving.interface import read_interface
from serving.scoring import chunks
from serving.scoring.cells import list_carried
from serving.scoring.cutting import Chunk, cut_files, read_header
from serving.scoring.job import (
    PARQUET,
    PLACE,
    PREDICTION,
    PROBABILITY,
    STAMP,
    Job,
    SourceError,
    read_job,
)
from serving.scoring.remote import send_chunks

_LINE_SECONDS = 1.0  # between two lines of progress
_SHOWN = 5


class Progress:
    """Numbers of rows so far, printed now and then."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._printed = 0.0
        self._bytes = 0
        self.total: dict[str, Any] = {"chunks": 0, "rows": 0, "rejected": 0, "problems": {}}

    def add(self, record: dict[str, Any]) -> None:
        """Add the record of a chunk."""
        self.total["chunks"] += 1
        self.total["rows"] += record["rows"]
        self.total["rejected"] += record["rejected"]
        self._bytes += record["bytes"]
        problems = self.total["problems"]
        for reason, (count, rows) in record["problems"].items():
            # Reasons name columns, never values, so there are few.
            before, shown = problems.get(reason, (0, []))
            problems[reason] = (before + count, shown or rows)
        if time.monotonic() - self._printed > _LINE_SECONDS:
            self._printed = time.monotonic()
            line = {"rows": self.total["rows"], "bytes": self._bytes}
            print(json.dumps(line), flush=True)


def main(path: str) -> int:
    """Score a job; return the exit code."""
    try:
        job = read_job(Path(path))
        total = score_files(job)
    except (SourceError, BundleError) as error:
        kind = "source" if isinstance(error, SourceError) else "model"
        print(json.dumps({"kind": kind, "problem": str(error)}), flush=True)
        return 1
    print(json.dumps(total), flush=True)
    return 0


def score_files(job: Job) -> dict[str, Any]:
    """Score all chunks that are not finished yet, and return the numbers of all rows."""
    check_headers(job)
    (job.result / "rejected").mkdir(parents=True, exist_ok=True)
    job.records.mkdir(exist_ok=True)
    progress = Progress()
    processes = job.processes or len(os.sched_getaffinity(0))
    if job.ahead:
        messages = sys.stdin.buffer, sys.stdout.buffer
        for record in send_chunks(job, _unfinished(job, progress), *messages):
            progress.add(record)
    elif processes == 1:
        scorer = chunks.Scorer(job)
        for chunk in _unfinished(job, progress):
            record = scorer.score(chunk)
            chunks.write_record(job, chunk.number, record)
            progress.add(record)
    else:
        _score_in_processes(job, processes, progress)
    if not progress.total["rows"]:
        raise SourceError("the source has no rows")
    if job.single:
        _join(job, progress.total["chunks"])
    return progress.total


def _unfinished(job: Job, progress: Progress) -> Iterator[Chunk]:
    """Yield the chunks that have no record yet."""
    for chunk in cut_files(job):
        if record := chunks.read_record(job, chunk.number):
            progress.add(record)
        else:
            yield chunk


def _score_in_processes(job: Job, processes: int, progress: Progress) -> None:
    # Started anew, not forked: libraries with threads of their own hang in a fork.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, context, chunks.start_process, (job,)) as pool:
        running: set[Future[dict[str, Any]]] = set()
        try:
            for chunk in _unfinished(job, progress):
                running.add(pool.submit(chunks.score_chunk, job, chunk))
                # Two a process: one is worked on, and one lies ready; more would fill the memory.
                while len(running) >= 2 * processes:
                    finished, running = wait(running, return_when=FIRST_COMPLETED)
                    for future in finished:
                        progress.add(future.result())
            for future in running:
                progress.add(future.result())
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def check_headers(job: Job) -> None:
    """Refuse a source that lacks a column, or has one that the result needs for itself.

    Raises:
        SourceError: It does, or its files have different columns.
    """
    bundle = read_bundle(Path(job.bundle))
    interface = read_interface(bundle)
    if interface.container != "dataframe":
        raise BundleError(f"{bundle.name} takes arrays; only models that take tables score in bulk")
    if job.method not in interface.methods:
        raise BundleError(f"{bundle.name} has no method {job.method}")
    needs = [column.name for column in interface.columns]
    carried: set[str] | None = None
    for name, path in job.files.items():
        header = read_header(Path(path), job.reading)
        if missing := [column for column in needs if column not in header]:
            more = len(missing) - _SHOWN
            names = ", ".join(missing[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
            raise SourceError(f"{name} lacks {names}, which {bundle.name} needs")
        others = list_carried(header, needs)
        own = {*PLACE, *STAMP}
        for column in others:
            if column in own or column.startswith((PREDICTION, PROBABILITY)):
                raise SourceError(
                    f"{name} has a column {column}, which is the name of a column of the result"
                )
        if carried is not None and carried != set(others):
            raise SourceError(f"{name} has other columns than the files before it")
        carried = set(others)


def _join(job: Job, count: int) -> None:
    """Join the parts into one file; parts and records stay until it is published."""
    parts = [job.result / f"part-{number:05}{job.ending}" for number in range(count)]
    target = Path(job.folder, f"single{job.ending}")
    if job.ending == PARQUET:
        from serving.scoring.parquet_files import join_files

        join_files(parts, target)
        return
    with target.open("wb") as whole:
        for number, path in enumerate(parts):
            with path.open("rb") as part:
                header = part.readline()
                if not number:
                    whole.write(header)
                shutil.copyfileobj(part, whole, 1 << 20)


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):
        sys.exit(main(sys.argv[1]))
