"""The guard of the local Prefect server towards browsers: its own names, its own pages, one way in.

Prefect's own settings ask for a credential and name the origin that may read answers. The guard
closes the rest:

- Foreign `Host` names are refused: with one that leads to loopback, a page of another site would be
  of the server's own origin (DNS rebinding).
- Nothing is done for a page of another site, even if a browser sends the credential along: its
  requests name their `Origin`. Prefect's own protection against them would cost each client, and
  so each run, a request for a token that the server writes into its database.
- No page of another site shows the UI in a frame.
- A ticket signs a browser in: it is given to who has the credential, and works once. The page
  stores the credential where the UI's own login form does.
"""

from __future__ import annotations

import hmac
import secrets
import time
from base64 import b64encode
from hashlib import sha256

from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deployments.local.ports import HOST
from deployments.local.sign_in import SIGN_IN, TICKETS
from deployments.prefect_api.server_auth import basic

# Long enough to read the output of `make demo` before the click.
TICKET_SECONDS = 600.0
_ALIAS = "localhost"
# They change nothing, and who may read their answers is for browsers and CORS to say.
_HARMLESS = {"GET", "HEAD", "OPTIONS"}
# `prefect-password` is where Prefect's UI keeps what its login form was given, in Base64.
_SCRIPT = """
const [, ticket, page] = location.hash.match(/^#([\\w-]+)(\\/.*)$/) ?? [];
history.replaceState(null, "", location.pathname);
const answer = ticket && await fetch(location.pathname, {method: "POST", body: ticket});
if (answer?.ok) localStorage.setItem("prefect-password", await answer.text());
if (answer?.ok || (page && localStorage.getItem("prefect-password")))
  location.replace(location.origin + page);
else document.querySelector("p").textContent =
  "This link was used before, or has expired. For another one: slipway open";
"""
_PAGE = f"""<!doctype html>
<meta charset="utf-8"><title>Sign in</title><p>Signing in …</p>
<script type="module">{_SCRIPT}</script>
"""
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; connect-src 'self'; script-src"
    f" 'sha256-{b64encode(sha256(_SCRIPT.encode()).digest()).decode()}'",
}


class Tickets:
    """The tickets that may still be used.

    Args:
        seconds: How long each may be used.
    """

    def __init__(self, seconds: float = TICKET_SECONDS) -> None:
        self._seconds = seconds
        self._deadlines: dict[str, float] = {}

    def issue(self) -> str:
        """Make a ticket."""
        now = time.monotonic()
        self._deadlines = {key: end for key, end in self._deadlines.items() if end > now}
        ticket = secrets.token_urlsafe(16)
        self._deadlines[ticket] = now + self._seconds
        return ticket

    def redeem(self, ticket: str) -> bool:
        """Use a ticket up, and return whether it was one."""
        return self._deadlines.pop(ticket, 0.0) > time.monotonic()


def guard(app: ASGIApp, *, port: int, login: str) -> ASGIApp:
    """Return Prefect's server behind its guard.

    Args:
        app: Prefect's server.
        port: Where it listens on loopback.
        login: `user:password` that it asks for.
    """
    pages = _sign_in_pages(login)
    root = f"http://{HOST}:{port}"

    async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope) if scope["type"] in {"http", "websocket"} else Headers()

        async def send_without_frames(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["X-Frame-Options"] = "DENY"
            await send(message)

        if headers.get("origin", root) != root and scope.get("method") not in _HARMLESS:
            refusal = PlainTextResponse("pages of other sites can change nothing here", 403)
            await refusal(scope, receive, send)
        elif scope["type"] != "http":
            await app(scope, receive, send)
        elif headers.get("host", "").partition(":")[0] == _ALIAS:
            # The UI's origin is one: what it stores, and may read, is not another name's.
            query = scope["query_string"].decode()
            url = f"{root}{scope['path']}{'?' if query else ''}{query}"
            await RedirectResponse(url)(scope, receive, send)
        elif scope["path"] in {SIGN_IN, TICKETS}:
            await pages(scope, receive, send_without_frames)
        else:
            await app(scope, receive, send_without_frames)

    return TrustedHostMiddleware(guarded, allowed_hosts=[HOST, _ALIAS])


def _sign_in_pages(login: str) -> Starlette:
    tickets = Tickets()
    authorization = basic(login)

    async def issue(request: Request) -> Response:
        if not hmac.compare_digest(
            request.headers.get("authorization", "").encode(), authorization.encode()
        ):
            return PlainTextResponse("Unauthorized", 401)
        return PlainTextResponse(tickets.issue(), headers=_HEADERS)

    async def show(_: Request) -> Response:
        return HTMLResponse(_PAGE, headers=_HEADERS)

    async def redeem(request: Request) -> Response:
        ticket = (await request.body()).decode(errors="replace")
        if not tickets.redeem(ticket):
            return PlainTextResponse("the ticket was used, or has expired", 403)
        return PlainTextResponse(b64encode(login.encode()).decode(), headers=_HEADERS)

    return Starlette(
        routes=[
            Route(TICKETS, issue, methods=["POST"]),
            Route(SIGN_IN, show, methods=["GET"]),
            Route(SIGN_IN, redeem, methods=["POST"]),
        ]
    )
