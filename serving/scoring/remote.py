"""Score chunks on other hosts: whoever starts these programs carries messages between them.

`python -m serving.scoring JOB` with `ahead` in the job sends chunks, and writes what comes back.
`python -m serving.scoring.remote JOB`, on other hosts, scores them. A message is a line with two
numbers, that of the chunk and that of its bytes, and the bytes, which only these programs read.
"""

import contextlib
import os
import pickle
import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

from serving.bundle import BundleError
from serving.scoring import chunks, parquet_files
from serving.scoring.cutting import Chunk, read_text
from serving.scoring.job import Job, SourceError, read_job


def send_chunks(
    job: Job, waiting: Iterable[Chunk], replies: IO[bytes], messages: IO[bytes]
) -> Iterator[dict[str, Any]]:
    """Send chunks, write their results, and yield their records; `ahead` chunks are on their way.

    Raises:
        SourceError: A chunk cannot be read.
        BundleError: The model fails.
        EOFError: Nobody carries messages any more.
    """
    ahead = 0
    for chunk in waiting:
        write_message(messages, chunk.number, pickle.dumps(_pack(job, chunk)))
        ahead += 1
        if ahead == job.ahead:
            yield _take_result(job, replies)
            ahead -= 1
    for _ in range(ahead):
        yield _take_result(job, replies)


def _pack(job: Job, chunk: Chunk) -> Chunk:
    """Return a chunk that carries its rows, for a host without the source."""
    if chunk.group is None:
        return replace(chunk, text=read_text(job, chunk), offset=None)
    path = job.files[chunk.file]
    return replace(chunk, text=parquet_files.copy_group(path, chunk.group), group=0)


def _take_result(job: Job, replies: IO[bytes]) -> dict[str, Any]:
    message = read_message(replies)
    if message is None:
        raise EOFError
    number, content = message
    reply = pickle.loads(content)  # of the same code, in another box
    if isinstance(reply, Exception):
        raise reply
    record, files = reply
    for name, text in files.items():
        (job.result / name).write_bytes(text)
    chunks.write_record(job, number, record)
    return dict(record)


def serve_chunks(
    scorer: chunks.Scorer | BundleError, job: Job, messages: IO[bytes], replies: IO[bytes]
) -> None:
    """Score the chunks of messages until there are no more; say why, if the model fails."""
    while message := read_message(messages):
        number, content = message
        chunk = pickle.loads(content)  # of the same code, in another box
        for path in _list_files(job):
            path.unlink()
        reply: Exception | tuple[dict[str, Any], dict[str, bytes]]
        try:
            if isinstance(scorer, BundleError):
                raise scorer
            record = scorer.score(chunk)
            files = {
                path.relative_to(job.result).as_posix(): path.read_bytes()
                for path in _list_files(job)
            }
            reply = record, files
        except (SourceError, BundleError) as error:
            reply = error
        write_message(replies, number, pickle.dumps(reply))


def _list_files(job: Job) -> list[Path]:
    return [path for path in job.result.rglob("*") if not path.is_dir()]


def write_message(stream: IO[bytes], number: int, content: bytes) -> None:
    """Write a message at once."""
    stream.write(b"%d %d\n" % (number, len(content)) + content)
    stream.flush()


def read_message(stream: IO[bytes]) -> tuple[int, bytes] | None:
    """Read a message; None if the stream has ended."""
    if not (line := stream.readline()):
        return None
    number, size = map(int, line.split())
    return number, stream.read(size)


def main(path: str) -> None:
    """Score the chunks that come from standard input."""
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what the model's code prints is no reply
    job = read_job(Path(path))
    (job.result / "rejected").mkdir(parents=True, exist_ok=True)
    scorer: chunks.Scorer | BundleError
    try:
        scorer = chunks.Scorer(job)
    except BundleError as error:  # of this host: on the first one, the model may have been proved
        scorer = error
    serve_chunks(scorer, job, sys.stdin.buffer, replies)


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):
        main(sys.argv[1])
