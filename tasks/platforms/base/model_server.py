"""A model server as proofs use it: which release it is, and what it predicts."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import httpx

from tasks.core.bounded_http import bounded_client
from tasks.platforms.base.no_answer import no_answer

_REQUEST_SECONDS = 30.0
_PROOF = "slipway-proof-"  # by which the prediction log distinguishes these requests from traffic


@dataclass(frozen=True)
class Answer:
    """The answer of a server to a request.

    Attributes:
        status: Status, as of HTTP; 200 is a prediction.
    """

    status: int
    text: str


class Server(Protocol):
    """A model server, by whatever protocol."""

    async def version(self) -> dict[str, str] | None:
        """Return what the server reports of its release, None if it does not answer."""

    async def ask(self, method: str, body: Mapping[str, Any]) -> Answer:
        """Have a method of the model predict.

        Args:
            method: Name of the method.

        Returns:
            The answer, whichever it is.

        Raises:
            TransientError: There is none.
        """


class HttpServer:
    """A model server at a URL."""

    def __init__(self, url: str) -> None:
        self._url = url

    async def version(self) -> dict[str, str] | None:
        """Read `/version`; None if there is no valid answer."""
        try:
            async with bounded_client(timeout=10) as client:
                answer = await client.get(f"{self._url}/version")
            return dict(answer.json()) if answer.status_code == 200 else None
        except (httpx.HTTPError, ValueError):
            return None

    async def metrics(self) -> str:
        """Read `/metrics`; empty if there is no valid answer."""
        try:
            async with bounded_client(timeout=10) as client:
                answer = await client.get(f"{self._url}/metrics")
        except (httpx.HTTPError, ValueError):  # ValueError: what is at the URL is not HTTP
            return ""
        return answer.text if answer.status_code == 200 else ""

    async def ask(self, method: str, body: Mapping[str, Any]) -> Answer:
        """Post to the method's own address."""
        url, headers = f"{self._url}/{method}", {"X-Request-Id": f"{_PROOF}{uuid.uuid4().hex}"}
        try:
            async with bounded_client(timeout=_REQUEST_SECONDS) as client:
                answer = await client.post(url, json=body, headers=headers)
        except httpx.HTTPError as error:
            raise no_answer(self._url, f"POST /{method}", error, state="", next_step="") from error
        return Answer(answer.status_code, answer.text)
