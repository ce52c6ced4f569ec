"""Credentials of requests to a Prefect server, and its protection against forged requests."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Generator
from uuid import uuid4

import httpx

_CHANGES_NOTHING = frozenset({"GET", "HEAD", "OPTIONS"})


def basic(login: str) -> str:
    """Return the value of the header `Authorization` for a `user:password`."""
    return f"Basic {b64encode(login.encode()).decode()}"


class ServerAuth(httpx.Auth):
    """The credentials of one client of a Prefect server, and its token against forged requests.

    A server with `PREFECT_SERVER_CSRF_PROTECTION_ENABLED` refuses a change with 403 unless it
    carries a token that the client has asked for. It is asked for when that happens, so that
    another server costs no request more.

    Args:
        url: The server's API URL.
        authorization: The value of the header `Authorization`; empty for none.
    """

    requires_response_body = True

    def __init__(self, url: str, authorization: str = "") -> None:
        self._url = url.rstrip("/")
        self._authorization = {"Authorization": authorization} if authorization else {}
        self._client = str(uuid4())
        self._token: dict[str, str] = {}

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response]:
        """Send a request with credentials, and again with a new token if it was refused."""
        request.headers.update(self._authorization)
        if request.method in _CHANGES_NOTHING:
            yield request
            return
        request.headers.update(self._token)
        response = yield request
        if response.status_code != 403:
            return
        url = httpx.URL(f"{self._url}/csrf-token", params={"client": self._client})
        answer = yield httpx.Request("GET", url, headers=self._authorization)
        if answer.is_success:
            self._token = {
                "Prefect-Csrf-Client": self._client,
                "Prefect-Csrf-Token": answer.json()["token"],
            }
            request.headers.update(self._token)
        # Without a token, the server refuses it once more: with its own reason.
        yield request
