"""Records of the prediction log: one line of JSON for each exchange, named as CloudEvents are."""

import hashlib
import hmac
import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from serving.bundle import Bundle
from serving.errors import to_json
from serving.interface import Interface, name_values
from serving.pieces import LISTS, OBJECTS, choose_frame, cut_rows, find_columns

PROOF = "slipway-proof-"  # begins the ids of requests with which a deploy proves the server
SPLICE = re.compile(rb'\s*\{\s*"data"\s*:\s*\{\s*"values"\s*:\s*(\[.*\])\s*\}\s*\}\s*', re.DOTALL)
HASH_CHARACTERS = 32
UNRELEASED = "unreleased"


@dataclass(slots=True)
class Exchange:
    """A request and its answer."""

    id: str  # of letters, digits and a few signs
    traceparent: str
    time: float  # of the request's arrival, in seconds since 1970
    method: str = ""
    status: int = 0  # of the answer; 0 before there is one
    milliseconds: float = 0.0
    body: bytes = b""  # of a request that was answered
    answer: bytes = b""
    prediction: str = ""  # the id of the prediction, if this is feedback

    @property
    def size(self) -> int:
        """The approximate bytes of memory."""
        return len(self.body) + len(self.answer) + 1000

    @property
    def day(self) -> str:
        """The day of its arrival, in UTC."""
        return datetime.fromtimestamp(self.time, UTC).date().isoformat()


class RecordWriter:
    """Makes the records of one model's server."""

    def __init__(
        self,
        bundle: Bundle,
        interface: Interface,
        key: bytes | None,
        private: Collection[str] = (),
    ) -> None:
        """Prepare what all records have in common.

        Args:
            bundle: the model's files.
            interface: its columns.
            key: of the hash of private values; None to leave private columns out.
            private: columns that are private beside those that the model names.
        """
        release = bundle.release
        self.version = str(release.get("version") or UNRELEASED)
        environment = str(release.get("environment") or UNRELEASED)
        self._source = json.dumps(f"/{bundle.name}/{environment}").encode()
        self._subject = json.dumps(self.version).encode()
        facts = {
            "model": bundle.name,
            "version": self.version,
            "commit": release.get("commit"),
            "environment": environment,
        }
        self._facts = json.dumps(facts)[1:-1].encode()
        self._names = [column.name for column in interface.columns]
        self._interface = interface
        self._private = frozenset(bundle.runtime.get("private") or ()) | frozenset(private)
        self._words = {c.name: c.missing_words for c in interface.columns if c.missing_words}
        self._golden = interface.unwrap(interface.wrap(bundle.golden.get("inputs") or []))
        self._key = key

    def write(self, exchange: Exchange) -> bytes:
        """Make the line of an exchange that has ended."""
        if exchange.status != 200:
            kind, content = b"refusal", b'"problems":' + self._problems(exchange.answer)
        elif exchange.prediction:
            answers = (exchange.prediction.encode(), exchange.answer)
            kind, content = b"feedback", b'"prediction":"%b","actual":%b' % answers
        else:
            kind = b"proof" if self._is_proof(exchange) else b"prediction"
            results = b"probabilities" if exchange.method == "predict_proba" else b"outputs"
            inputs = self._inputs(exchange.body)
            content = b'"inputs":%b,"%b":%b' % (inputs, results, exchange.answer)
        moment = datetime.fromtimestamp(exchange.time, UTC).isoformat(timespec="milliseconds")
        trace = exchange.traceparent
        parent = b'"traceparent":"%b",' % trace.encode() if trace else b""
        return (
            b'{"specversion":"1.0","type":"slipway.%b","id":"%b","source":%b,"subject":%b,'
            b'"time":"%bZ",%b"data":{%b,"method":"%b","status":%d,"milliseconds":%.3f,%b}}\n'
        ) % (
            kind, exchange.id.encode(), self._source, self._subject, moment[:-6].encode(), parent,
            self._facts, exchange.method.encode(), exchange.status, exchange.milliseconds, content,
        )  # fmt: skip

    def _is_proof(self, exchange: Exchange) -> bool:
        """Tell a deploy's proof from a client that takes an id like it: by what it asks."""
        if not exchange.id.startswith(PROOF):
            return False
        rows: list[Any] = self._interface.unwrap(json.loads(exchange.body))
        return rows == self._golden

    def _inputs(self, body: bytes) -> bytes:
        """Make the rows of a valid request, each an object of columns."""
        if (
            not (self._private or self._words)
            and b"\\" not in body
            and body.count(b'"values"') == 1
        ):
            # Without an escape and with one "values", the text around the rows is known, and no
            # name can stand in it twice. So the rows are copied, not parsed.
            match = SPLICE.fullmatch(body)
            if match:
                return match[1].translate(None, b"\r\n")  # they can only stand between values
        try:
            parts = [self._write_rows(rows) for rows in self._read_pieces(body)]
        except ValueError:  # it was cut at a wrong place
            parts = [self._write_rows(self._interface.unwrap(json.loads(body)))]
        return b"[%b]" % b",".join(parts)

    def _read_pieces(self, body: bytes) -> Iterator[list[Any]]:
        """Read the rows of a valid request; those of a large one are not all in memory at once."""
        frame = choose_frame(self._interface)
        head = None
        if frame is OBJECTS and OBJECTS.head.match(body) is None:
            head = find_columns(body)
        pieces = cut_rows(body, frame) if head is None else cut_rows(body, LISTS, head[1])
        if pieces is None:
            yield self._interface.unwrap(json.loads(body))
            return
        for piece in pieces:
            rows = json.loads(piece)
            yield rows if head is None else name_values(head[0]["columns"], rows)

    def _write_rows(self, rows: Sequence[Any]) -> bytes:
        return to_json([self._describe(row) for row in rows])[1:-1]

    def _describe(self, row: Any) -> dict[str, Any]:
        if not isinstance(row, Mapping):
            values = row if isinstance(row, list) else [row]
            row = dict(zip(self._names, values, strict=False))
        if self._words:
            row = {
                name: None if value in self._words.get(name, ()) else value
                for name, value in row.items()
            }
        if not self._private:
            return dict(row)
        if self._key is None:
            return {name: value for name, value in row.items() if name not in self._private}
        return {
            name: self._hash(name, value) if name in self._private else value
            for name, value in row.items()
        }

    def _hash(self, name: str, value: Any) -> str | None:
        """Hash a private value with the key: the same value of a column has the same hash."""
        if value is None or self._key is None:
            return None
        if isinstance(value, float) and value.is_integer():
            value = int(value)  # JSON has no two numbers of them
        text = json.dumps([name, value]).encode()
        return hmac.new(self._key, text, hashlib.sha256).hexdigest()[:HASH_CHARACTERS]

    def _problems(self, answer: bytes) -> bytes:
        """Return places and reasons from an answer that refuses, without the client's values."""
        problems = []
        for problem in json.loads(answer or b"{}").get("detail", []):
            place = problem.get("loc", [])[1:]  # in the body
            numbers = [part for part in place if isinstance(part, int)]
            column = place[-1] if place and place[-1] in self._names else None
            if column is None and len(numbers) > 1:  # a row that is a list
                column = self._names[numbers[1]] if numbers[1] < len(self._names) else None
            row = numbers[0] if numbers else None
            problems.append({"row": row, "column": column, "reason": problem.get("type")})
        return to_json(problems)
