"""Ship the records of prediction logs: from the spool on this host into the bucket.

    python -m tasks.bucket.shipper --spool "$SLIPWAY_HOME/spool" --bucket models --endpoint URL

It runs all the time, outside of the model servers' boxes, with an identity that may only put under
`predictions/` (`AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`). The path of a folder says whose
records are in it. What is in it a model's code may have written: files are copied, never followed,
parsed or executed.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import gzip
import json
import logging
import os
import re
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.bucket.held_spools import is_held
from tasks.bucket.log_store import PREFIX, open_store
from tasks.bucket.shipper_gauges import write_gauges
from tasks.core.plain_file import open_plain

if TYPE_CHECKING:
    from obstore.exceptions import BaseError
    from obstore.store import S3Store

STATE = "shipper.json"
# A file that is written is locked. Only one that is older is tried: its server, which has just made
# it, may not have come to lock it.
_ABANDONED_SECONDS = 60.0
_MOST_FILE_BYTES = 256 << 20
_MOST_SPOOL_BYTES = 1 << 30
_EVERY_SECONDS, _LATEST_SECONDS, _GAUGE_SECONDS = 1.0, 60.0, 15.0
# Without a failure, a file is shipped a second after it is complete, at most an hour after its last
# record.
_LATE_SECONDS = 3600.0 + 300.0
_NAME = re.compile(r"(\d{4}-\d{2}-\d{2})\.([A-Za-z0-9-]{1,100})\.jsonl")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Waiting:
    """The files of a spool that wait for the bucket.

    Attributes:
        files: Their number.
        size: Their bytes.
        oldest: Age of the oldest, in seconds.
        error: Why the last one was not shipped; empty if it was.
        dropped: Files that were removed because too many waited.
    """

    files: int = 0
    size: int = 0
    oldest: float = 0.0
    error: str = ""
    dropped: int = 0

    @property
    def problem(self) -> str:
        """Why records do not get into the bucket; empty if they do."""
        words = []
        if self.error or self.oldest > _LATE_SECONDS:
            words.append(
                f"{self.files} files ({self.size / 1e6:.1f} MB, the oldest of"
                f" {self.oldest / 60:.0f} min) wait for the bucket:"
                f" {self.error or 'the shipper does not run, or is not fast enough'}"
            )
        if self.dropped:
            words.append(f"{self.dropped} files were dropped")
        return "; ".join(words)


def key_of(spool: Path, path: Path) -> str | None:
    """Return the key of a file of a spool in the bucket; None if no model server wrote it."""
    match = _NAME.fullmatch(path.name)
    parts = path.parent.relative_to(spool).parts
    if match is None or len(parts) != 3:
        return None
    model, environment, version = parts
    name = f"{match[2]}.jsonl.gz"
    return f"{PREFIX}/{model}/{environment}/date={match[1]}/version={version}/{name}"


def ship(spool: Path, store: S3Store) -> int:
    """Ship every file that is complete, oldest first, and remove what the bucket has.

    Args:
        spool: Folder of all spools of this host.
        store: The bucket.

    Returns:
        The number of files that were shipped.

    Raises:
        obstore.exceptions.BaseError: The bucket did not take one; it stays.
    """
    import obstore
    from obstore.exceptions import AlreadyExistsError

    count = 0
    for path in _complete_files(spool):
        key, content = key_of(spool, path), _read(path)
        if key and content:
            # Signed with the hash of the content, which the bucket compares. No time in it: the
            # same file is the same object.
            packed = gzip.compress(content, compresslevel=6, mtime=0)
            with contextlib.suppress(AlreadyExistsError):  # killed before it removed the file
                obstore.put(store, key, packed, mode="create", use_multipart=False)
            count += 1
        if content is not None:
            with contextlib.suppress(OSError):
                path.unlink()
    return count


def read_waiting(spool: Path) -> Waiting:
    """Read how much of a spool waits for the bucket, and why."""
    facts = [
        facts
        for path in _list_files(spool, ".jsonl")
        if (facts := _facts(path)) and stat.S_ISREG(facts.st_mode)
    ]
    try:
        state = json.loads((spool / STATE).read_text())
    except (OSError, ValueError):
        state = {}
    now = time.time()
    return Waiting(
        len(facts),
        sum(fact.st_size for fact in facts),
        max((now - fact.st_mtime for fact in facts), default=0.0),
        str(state.get("error", "")),
        int(state.get("dropped", 0)),
    )


def make_room(spool: Path, most: int = _MOST_SPOOL_BYTES) -> int:
    """Remove the oldest files of a spool that has more than `most` bytes; return their number."""
    facts = [(facts, path) for path in _complete_files(spool) if (facts := _facts(path))]
    total, count = sum(fact.st_size for fact, _ in facts), 0
    for fact, path in facts:
        if total <= most:
            break
        with contextlib.suppress(OSError):
            path.unlink()
            count += 1
        total -= fact.st_size
    return count


def _complete_files(spool: Path) -> list[Path]:
    """List the files that nobody writes any more, oldest first."""
    for part in _list_files(spool, ".jsonl.part"):
        facts = _facts(part)
        if facts and time.time() - facts.st_mtime > _ABANDONED_SECONDS:
            _complete(part)
    dated = [
        (facts.st_mtime, path)
        for path in _list_files(spool, ".jsonl")
        if (facts := _facts(path)) and stat.S_ISREG(facts.st_mode)
    ]
    return [path for _, path in sorted(dated)]


def _list_files(spool: Path, suffix: str) -> list[Path]:
    files = spool.glob(f"*/*/*/*{suffix}")
    return [path for path in files if not is_held(path.parent)]


def _complete(part: Path) -> None:
    """Take over a file whose server was killed."""
    with contextlib.suppress(OSError), _open(part) as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        part.rename(part.with_suffix(""))


@contextlib.contextmanager
def _open(path: Path) -> Iterator[int]:
    file = open_plain(path)
    try:
        yield file
    finally:
        os.close(file)


def read_lines(path: Path) -> bytes:
    """Read the whole lines of a file of records.

    Raises:
        OSError: It is gone, cannot be read, or is not a file of records.
    """
    with _open(path) as file:
        if os.fstat(file).st_size > _MOST_FILE_BYTES:
            raise OSError("not a file of records")
        with os.fdopen(os.dup(file), "rb") as opened:
            content = opened.read()
    return content[: content.rfind(b"\n") + 1]


def _read(path: Path) -> bytes | None:
    """Read the whole lines of a file; none of what is no file of records, None if it is gone."""
    try:
        return read_lines(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        log.warning("removing %s: it cannot be read: %s", path, error)
        return b""


def _facts(path: Path) -> os.stat_result | None:
    with contextlib.suppress(OSError):
        return path.lstat()
    return None


def run(spool: Path, store: S3Store, gauges: Path | None = None) -> None:
    """Ship for ever; wait longer from failure to failure.

    Args:
        spool: Folder of all spools of this host.
        store: The bucket.
        gauges: Folder for the gauges of what waits; None for none.
    """
    from obstore.exceptions import BaseError

    wait, dropped, gauged = _EVERY_SECONDS, 0, -_GAUGE_SECONDS
    (spool / STATE).unlink(missing_ok=True)
    while True:
        try:
            ship(spool, store)
        except BaseError as error:
            dropped += make_room(spool)
            wait = min(2 * wait, _LATEST_SECONDS)
            why = _explain(error)
            log.warning("the bucket did not take records: %s; next try in %.0f s", why, wait)
            since = datetime.now(UTC).isoformat(timespec="seconds")
            _write_state(spool, {"error": why, "at": since, "dropped": dropped})
        else:
            if wait > _EVERY_SECONDS:
                log.warning("the bucket takes records again")
                wait = _EVERY_SECONDS
                _write_state(spool, {"error": "", "dropped": dropped})
        if gauges and time.monotonic() - gauged >= _GAUGE_SECONDS:
            gauged = time.monotonic()
            with contextlib.suppress(OSError):
                write_gauges(gauges, read_waiting(spool))
        time.sleep(wait)


def _explain(error: BaseError) -> str:
    """Return why the bucket did not take a file, in a few words."""
    from obstore.exceptions import PermissionDeniedError, UnauthenticatedError

    if isinstance(error, PermissionDeniedError | UnauthenticatedError):
        return f"it denies access: the key is wrong, or may not put under {PREFIX}/"
    # Its first line, after the request; the other lines are how Rust prints the error.
    return str(error).strip().splitlines()[0].rpartition(" - ")[2][:300]


def _write_state(spool: Path, state: dict[str, object]) -> None:
    with contextlib.suppress(OSError):
        draft = spool / f".{STATE}"
        draft.write_text(json.dumps(state))
        draft.replace(spool / STATE)


def main() -> None:
    """Ship until it is stopped."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--spool", type=Path, required=True, help="folder of the records")
    parser.add_argument("--bucket", required=True, help="the bucket")
    parser.add_argument("--endpoint", default="", help="address of an S3 server that is not AWS")
    parser.add_argument("--region", default="us-east-1", help="region of the bucket")
    parser.add_argument("--gauges", type=Path, help="folder for gauges, for the node exporter")
    parsed = parser.parse_args()
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s")
    parsed.spool.mkdir(mode=0o700, parents=True, exist_ok=True)
    run(parsed.spool, open_store(parsed.bucket, parsed.endpoint, parsed.region), parsed.gauges)


if __name__ == "__main__":
    main()
