"""Faults of a platform's API: every call of a stand-in can be told to go wrong."""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Literal

from tasks.platforms.base import rest

Kind = Literal["429", "500", "hang", "drop"]
KINDS: tuple[Kind, ...] = ("429", "500", "hang", "drop")
# What differs between two calls of the same name: identifiers, releases, versions, hashes.
_NAMES = re.compile(
    r"(?<=/)([0-9a-f]{12,}|[0-9a-f-]{36}|[\w.-]*\d{8}t\d{6}[\w.-]*|\d+|sha256:[0-9a-f]+)(?=/|$)",
    re.I,
)


class Faults:
    """ASGI middleware, the outermost: answers wrongly, late or not at all when told to.

    Args:
        app: The stand-in.
        hang_seconds: For how long a call hangs; longer than its client waits.
        error: Body of an error as this platform words it, by status.
    """

    def __init__(
        self,
        app: Any,
        hang_seconds: float = 3.0,
        error: Callable[[int], Mapping[str, Any]] = lambda code: {"error": f"told to fail: {code}"},
    ) -> None:
        self._app = app
        self._hang_seconds = hang_seconds
        self._error = error
        self._first: tuple[Kind, ...] = ()
        self._always: dict[str, Kind] = {}
        self._met: Counter[str] = Counter()
        self.calls: Counter[str] = Counter()

    def fail_each_call(self, *kinds: Kind) -> None:
        """Let the first calls of each name fail from now on, in these ways one after the other."""
        self.clear()
        self._first = kinds

    def always(self, kind: Kind, call: str) -> None:
        """Let every call of this name fail from now on."""
        self._always[call] = kind

    def clear(self) -> None:
        """Let all calls succeed from now on."""
        self._first, self._always = (), {}
        self._met.clear()
        self.calls.clear()

    @property
    def met(self) -> int:
        """Number of calls that failed, as the first calls of each name do."""
        return self._met.total()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        name = self.name(scope)
        self.calls[name] += 1
        kind = self._always.get(name)
        if kind is None and self._met[name] < len(self._first):
            kind = self._first[self._met[name]]
            self._met[name] += 1
        if kind is None:
            await self._app(scope, receive, send)
        elif kind in {"429", "500"}:
            await self._refuse(int(kind), send)
        elif kind == "hang":  # without having acted
            await asyncio.sleep(self._hang_seconds)
            await self._refuse(500, send)
        else:
            await self._act(scope, receive)
            if scope["method"] == "HEAD":  # whose answer is complete without a body
                await self._refuse(502, send)
                return
            # Half an answer, then nothing: uvicorn closes the connection.
            start = {"type": "http.response.start", "status": 200,
                     "headers": [(b"content-length", b"1000000")]}  # fmt: skip
            await send(start)

    def name(self, scope: Any) -> str:
        """Name a call by method and path, without the parts of one release."""
        return f"{scope['method']} {_NAMES.sub('*', scope['path'])}"

    async def _act(self, scope: Any, receive: Any) -> None:
        async def swallow(_: Any) -> None: ...

        await self._app(scope, receive, swallow)

    async def _refuse(self, code: int, send: Any) -> None:
        body = json.dumps(self._error(code)).encode()
        headers = [(b"content-type", b"application/json"), (b"connection", b"close")]
        await send({"type": "http.response.start", "status": code, "headers": headers})
        await send({"type": "http.response.body", "body": body})


class RestFaults(Faults):
    """Faults of an API called by `tasks.platforms.base.rest`, with shorter waits."""

    _usual = rest._SECONDS

    def fail_each_call(self, *kinds: Kind) -> None:
        super().fail_each_call(*kinds)
        rest._SECONDS = 2.0 if "hang" in kinds else self._usual

    def clear(self) -> None:
        super().clear()
        rest._SECONDS = self._usual
