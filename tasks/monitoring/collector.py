"""Collect the records that model servers print: from a platform's log into the spool of this host.

    heroku logs --tail --app APP | python -m tasks.monitoring.collector \\
        --environment production --spool "$SLIPWAY_HOME/spool"

For platforms where servers have no folder for their records. The shipper takes them from the spool,
as it does those of servers on this host. A model's code may have written any line: so records are
parsed as data, and only those of the environment are kept, under the version that they name.
"""

from __future__ import annotations

import argparse
import logging
import os
import re
import secrets
import select
import signal
import sys
import time
from collections import defaultdict
from contextlib import suppress
from pathlib import Path

from tasks.monitoring.records import MOST_BYTES, RECORD_END, RECORD_START, parse_record

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_START, _END = RECORD_START.encode(), RECORD_END.encode()
_CHUNK = 1 << 20
_FILE_BYTES = 8 << 20  # of all records that wait here; they are lost if this is killed
_MOST_PIECES = 300  # of a record; Heroku cuts lines after 10 kB
_SECONDS = 10.0

log = logging.getLogger(__name__)


class Collector:
    """Finds records in the lines of a platform's log, and writes them into files of a spool.

    Args:
        spool: Folder of all spools of this host.
        environment: The environment whose records count.
    """

    def __init__(self, spool: Path, environment: str) -> None:
        self._spool, self._environment = spool, environment
        self._writer = f"collector-{secrets.token_hex(4)}"
        self._number = 0
        self._files: dict[tuple[Path, str], list[bytes]] = defaultdict(list)
        self._torn, self._indent, self._pieces = b"", 0, 0
        self.size = self.count = self.dropped = 0

    def add(self, line: bytes) -> None:
        """Take a line of the log; a record may span several lines.

        A platform puts the same number of signs before each line, and cuts long ones: so a record
        is complete when what follows the same indent can be parsed.
        """
        start = line.find(_START)
        if start >= 0:
            self._drop_torn()
            self._torn, self._indent, self._pieces = line[start:].rstrip(b"\r\n"), start, 1
        elif self._torn:
            self._torn += line.rstrip(b"\r\n")[self._indent :]
            self._pieces += 1
        if self._torn.endswith(_END) and self._keep(self._torn):
            self._torn = b""
        elif len(self._torn) > MOST_BYTES or self._pieces > _MOST_PIECES:
            self._drop_torn()

    def flush(self) -> None:
        """Write the records that wait into files that the shipper takes."""
        for (folder, day), records in self._files.items():
            self._number += 1
            name = f"{day}.{self._writer}-{time.time_ns()}-{self._number}.jsonl"
            draft = folder / f"{name}.part"
            try:
                folder.mkdir(parents=True, exist_ok=True)
                draft.write_bytes(b"\n".join([*records, b""]))
                draft.rename(folder / name)
            except OSError as error:
                with suppress(OSError):
                    draft.unlink()
                log.warning("%d records are lost: %s", len(records), error)
                self.dropped += len(records)
            else:
                self.count += len(records)
        self._files.clear()
        self.size = 0

    def _keep(self, line: bytes) -> bool:
        """Keep a line for its file; return False if it is not a whole record."""
        record = parse_record(line)
        if record is None:
            return False
        _, model, environment, *rest = [*record.source.split("/"), "", "", ""]
        names = (model, record.version)
        if environment != self._environment or any(rest) or not all(map(_NAME.fullmatch, names)):
            self.dropped += 1
            return True
        folder = self._spool / model / environment / record.version
        self._files[folder, f"{record.at:%Y-%m-%d}"].append(line)
        self.size += len(line)
        return True

    def _drop_torn(self) -> None:
        self.dropped += bool(self._torn)
        self._torn = b""


def collect(collector: Collector, source: int) -> None:
    """Collect from a stream until it ends.

    Args:
        collector: Takes the lines.
        source: File descriptor of the stream.
    """
    rest, flushed = b"", time.monotonic()
    while True:
        ready, _, _ = select.select([source], [], [], _SECONDS)
        if ready:
            chunk = os.read(source, _CHUNK)
            if not chunk:
                break
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                collector.add(line)
            if len(rest) > MOST_BYTES:
                rest = b""
        if collector.size > _FILE_BYTES or time.monotonic() - flushed >= _SECONDS:
            collector.flush()
            flushed = time.monotonic()
    collector.add(rest)


def main() -> None:
    """Collect until the stream ends, or this is asked to stop."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--environment", required=True, help="whose servers print the records")
    parser.add_argument("--spool", type=Path, required=True, help="folder of the records")
    parsed = parser.parse_args()
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s")
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))
    parsed.spool.mkdir(mode=0o700, parents=True, exist_ok=True)
    collector = Collector(parsed.spool, parsed.environment)
    try:
        collect(collector, sys.stdin.fileno())
    finally:
        collector.flush()
        log.warning("%d records were kept, %d dropped", collector.count, collector.dropped)


if __name__ == "__main__":
    main()
