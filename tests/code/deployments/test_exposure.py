"""What `doctor` and `check` find out about the doors of a Prefect server."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from deployments.diagnosis.exposure import check_exposure
from deployments.local.stack import Stack
from tests.code.deployments.servers import listed
from tests.stand_ins.serve import serving

CREDENTIAL = "server, without a credential"
ORIGIN = "server, page of another site"
HOST = "server, name of another host"


def server(*, status: int = 200, origins: str = "*", hosts: str = "*") -> Starlette:
    """Return a server that gives everybody a token, like Prefect's without a credential."""

    async def blocks(request: Request) -> Response:
        if "Prefect-Csrf-Token" not in request.headers:
            return JSONResponse({"detail": "Missing CSRF token."}, 403)
        return JSONResponse([], status)

    async def answer(_: Request) -> Response:
        return JSONResponse({"token": "t"})

    return Starlette(
        routes=[
            Route("/api/block_documents/filter", blocks, methods=["POST"]),
            Route("/api/csrf-token", answer),
            Route("/api/health", answer),
        ],
        middleware=[
            Middleware(TrustedHostMiddleware, allowed_hosts=[hosts]),
            Middleware(CORSMiddleware, allow_origins=[origins]),
        ],
    )


async def test_server_without_protection_is_a_problem() -> None:
    with serving(server()) as url:
        findings = await listed(check_exposure(f"{url}/api"))
    assert "PREFECT_SERVER_API_AUTH_STRING" in findings[CREDENTIAL].fix
    assert "PREFECT_SERVER_CORS_ALLOWED_ORIGINS" in findings[ORIGIN].fix
    assert "warning" in findings[HOST].text


async def test_each_protection_is_found() -> None:
    with serving(server(status=401, origins="http://ui.example", hosts="127.0.0.1")) as url:
        findings = await listed(check_exposure(f"{url}/api"))
    assert all(finding.ok for finding in findings.values())
    assert findings[CREDENTIAL].text == "refuses to read blocks (401)"
    assert findings[HOST].text == "is refused (400)"


async def test_local_stack_is_closed(stack: Stack) -> None:
    findings = await listed(check_exposure(stack.prefect_api_url))
    assert {thing: finding.text for thing, finding in findings.items()} == {
        CREDENTIAL: "refuses to read blocks (401)",
        ORIGIN: "may not read its answers",
        HOST: "is refused (400)",
    }
