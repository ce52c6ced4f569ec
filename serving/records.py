"""Records of the prediction log: one line of JSON for each exchange, named as CloudEvents are."""

import hashlib
import hmac
import json
import re
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from serving.bundle import Bundle
from serving.errors import to_json
from serving.interface import Interface, name_values
from serving.pieces import LISTS, OBJECTS, choose_frame, cut_rows, find_columns

PROOF = b"slipway-proof-"  # begins the ids of requests with which a deploy proves the server
SPLICE = re.compile(rb'\s*\{\s*"data"\s*:\s*\{\s*"values"\s*:\s*(\[.*\])\s*\}\s*\}\s*', re.DOTALL)
NAME = b'"values"'  # of the rows of a request
HASH_CHARACTERS = 32
UNRELEASED = "unreleased"


@dataclass(slots=True)
class Exchange:
    """A request and its answer."""

    id: bytes  # of letters, digits and a few signs
    traceparent: bytes
    time: float  # of the request's arrival, in seconds since 1970
    method: str = ""
    status: int = 0  # of the answer; 0 before there is one
    milliseconds: float = 0.0
    body: bytes = b""  # of a request that was answered
    answer: bytes = b""
    prediction: bytes = b""  # the id of the prediction, if this is feedback
    size: int = 0  # the approximate bytes of memory, once it has ended


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
        source = json.dumps(f"/{bundle.name}/{environment}").encode()
        subject = json.dumps(self.version).encode()
        facts = {
            "model": bundle.name,
            "version": self.version,
            "commit": release.get("commit"),
            "environment": environment,
        }
        # What all records have in common is put in once, the rest by `%`, once a record.
        self._common = _escape(b'"source":%b,"subject":%b,' % (source, subject))
        self._facts = _escape(json.dumps(facts)[1:-1].encode())
        self._format = self._make_format(b"%b", b"%b", b"%d", b"%b")
        self._predictions = {
            method: self._make_format(
                b"prediction", method.encode(), b"200",
                b'"inputs":%%b,"%b":%%b' % _name_results(method),
            )
            for method in interface.methods
        }  # fmt: skip
        self._names = [column.name for column in interface.columns]
        self._interface = interface
        self._private = frozenset(bundle.runtime.get("private") or ()) | frozenset(private)
        self._words = {c.name: c.missing_words for c in interface.columns if c.missing_words}
        self._golden = interface.unwrap(interface.wrap(bundle.golden.get("inputs") or []))
        self._must_parse = bool(self._private or self._words)
        self._key = key

    def copy_rows(self, exchanges: Sequence[Exchange]) -> list[bytes | None]:
        """Copy the rows of each valid request; None where they have to be parsed, or are none."""
        if self._must_parse:
            return [None] * len(exchanges)
        # All bodies are searched at once: a call costs more than to search in one of them.
        bodies = [exchange.body for exchange in exchanges]
        joined = b"".join(bodies)
        matches = [*map(SPLICE.fullmatch, bodies)]
        # Each match has a name of rows; so if there are no more than matches, each has one.
        is_plain = b"\\" not in joined and joined.count(NAME) == len(bodies) - matches.count(None)
        copies = [
            match[1] if match and (is_plain or _is_plain(match.string)) else None
            for match in matches
        ]
        if b"\n" in joined or b"\r" in joined:  # they can only stand between values
            copies = [rows and rows.translate(None, b"\r\n") for rows in copies]
        return copies

    def write(self, exchange: Exchange, rows: bytes | None) -> bytes:
        """Make the line of an exchange that has ended.

        Args:
            exchange: the request and its answer.
            rows: its rows, where `copy_rows` has copied them.
        """
        second, millisecond = divmod(int(1000 * exchange.time), 1000)
        parent = exchange.traceparent and b'"traceparent":"%b",' % exchange.traceparent
        if rows and exchange.status == 200 and not exchange.id.startswith(PROOF):
            return self._predictions[exchange.method] % (
                exchange.id, _format_second(second), millisecond, parent, exchange.milliseconds,
                rows, exchange.answer,
            )  # fmt: skip
        if exchange.status != 200:
            kind, content = b"refusal", b'"problems":' + self._problems(exchange.answer)
        elif exchange.prediction:
            answers = (exchange.prediction, exchange.answer)
            kind, content = b"feedback", b'"prediction":"%b","actual":%b' % answers
        else:
            kind = b"proof" if self._is_proof(exchange) else b"prediction"
            parts = (
                rows or self._make_rows(exchange.body),
                _name_results(exchange.method),
                exchange.answer,
            )
            content = b'"inputs":%b,"%b":%b' % parts
        return self._format % (
            kind, exchange.id, _format_second(second), millisecond, parent,
            exchange.method.encode(), exchange.status, exchange.milliseconds, content,
        )  # fmt: skip

    def _make_format(self, kind: bytes, method: bytes, status: bytes, content: bytes) -> bytes:
        return b"".join((
            b'{"specversion":"1.0","type":"slipway.', kind, b'","id":"%b",', self._common,
            b'"time":"%b.%03dZ",%b"data":{', self._facts, b',"method":"', method,
            b'","status":', status, b',"milliseconds":%.3f,', content, b"}}\n",
        ))  # fmt: skip

    def _is_proof(self, exchange: Exchange) -> bool:
        """Tell a deploy's proof from a client that takes an id like it: by what it asks."""
        if not exchange.id.startswith(PROOF):
            return False
        rows: list[Any] = self._interface.unwrap(json.loads(exchange.body))
        return rows == self._golden

    def _make_rows(self, body: bytes) -> bytes:
        """Make the rows of a valid request, each an object of columns."""
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


@lru_cache(maxsize=4)
def _format_second(second: int) -> bytes:
    """Format a number of seconds since 1970."""
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second)).encode()


def _is_plain(body: bytes) -> bool:
    """Tell if the text around the rows is known, as no name can stand in it twice."""
    return b"\\" not in body and body.count(NAME) == 1


def _name_results(method: str) -> bytes:
    return b"probabilities" if method == "predict_proba" else b"outputs"


def _escape(text: bytes) -> bytes:
    """Make a text stand for itself in a format."""
    return text.replace(b"%", b"%%")
