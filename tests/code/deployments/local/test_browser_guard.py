"""The doors of the local stack: a web page, another user of the machine, a run's own variables."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus
from websockets.typing import Origin, Subprotocol

from deployments.catalogue.resources.work_pools import fix_template
from deployments.local.browser_guard import Tickets
from deployments.local.sign_in import SIGN_IN, TICKETS, sign_in_url, write_redirect
from deployments.local.stack import Stack
from deployments.prefect_api.server_auth import ServerAuth
from tasks.core.tls import ssl_context
from tests.stack_access import prefect_http

if TYPE_CHECKING:
    from pathlib import Path

FOREIGN = "http://foreign.example"
BLOCKS = "/block_documents/filter"


@pytest.fixture
def anybody(stack: Stack) -> Iterator[httpx.Client]:
    """A client of the Prefect server without credentials."""
    with httpx.Client(
        base_url=stack.prefect_api_url, trust_env=False, verify=ssl_context()
    ) as client:
        yield client


def test_client_without_credentials_reads_and_starts_nothing(
    stack: Stack, anybody: httpx.Client
) -> None:
    with prefect_http(stack) as http:
        deployment = http.get("/deployments/name/train/train").raise_for_status().json()["id"]
    run = f"/deployments/{deployment}/create_flow_run"
    for headers in ({}, {"Origin": FOREIGN}, {"Content-Type": "text/plain"}):
        for path in (BLOCKS, run, "/flow_runs/filter", "/logs/filter"):
            answer = anybody.post(path, headers=headers, json={"include_secrets": True})
            assert answer.status_code in {401, 403}, (path, answer.text)
            assert "access-control-allow-origin" not in answer.headers
    for path in ("/deployments/name/train/train", "/csrf-token?client=me", "/admin/settings"):
        assert anybody.get(path).status_code == 401, path
    with anybody.stream("GET", "/health") as health:
        assert health.is_success


def test_page_of_another_origin_gets_no_leave_to_ask(stack: Stack, anybody: httpx.Client) -> None:
    ask = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "x-y"}
    for origin in (FOREIGN, "null", stack.model_url("local"), "http://localhost:4200"):
        answer = anybody.options(BLOCKS, headers={**ask, "Origin": origin})
        assert answer.status_code == 400, origin
        assert "access-control-allow-origin" not in answer.headers
    answer = anybody.options(BLOCKS, headers={**ask, "Origin": stack.prefect_ui_url})
    assert answer.headers["access-control-allow-origin"] == stack.prefect_ui_url


def test_page_of_another_origin_changes_nothing_even_with_the_credential(stack: Stack) -> None:
    with prefect_http(stack) as http:
        for origin in (FOREIGN, "null", stack.model_url("local"), "http://localhost:4200", ""):
            for method in ("POST", "PUT", "PATCH", "DELETE"):
                answer = http.request(method, "/variables/", headers={"Origin": origin}, json={})
                assert (answer.status_code, "other sites" in answer.text) == (403, True), origin
        own = http.post("/variables/filter", headers={"Origin": stack.prefect_ui_url}, json={})
        assert own.is_success


async def test_page_of_another_origin_opens_no_websocket(stack: Stack) -> None:
    url = f"{stack.prefect_api_url.replace('http', 'ws', 1)}/events/out"
    protocols = [Subprotocol("prefect")]
    async with connect(url, origin=Origin(stack.prefect_ui_url), subprotocols=protocols):
        pass
    with pytest.raises(InvalidStatus, match="403"):
        async with connect(url, origin=Origin(FOREIGN), subprotocols=protocols):
            pass


def test_foreign_host_name_is_refused(stack: Stack, anybody: httpx.Client) -> None:
    for host in ("foreign.example", "127.0.0.1.foreign.example", "foreign.localhost:4200", ""):
        for path in ("/health", BLOCKS, f"{stack.prefect_ui_url}{SIGN_IN}"):
            assert anybody.get(path, headers={"Host": host}).status_code == 400, (host, path)
    moved = anybody.get(f"{stack.prefect_ui_url}/runs?a=b", headers={"Host": "localhost:4200"})
    assert moved.headers["location"] == f"{stack.prefect_ui_url}/runs?a=b"


def test_ui_is_shown_in_no_frame(stack: Stack, anybody: httpx.Client) -> None:
    for path in ("/", SIGN_IN):
        answer = anybody.get(f"{stack.prefect_ui_url}{path}", headers={"Accept": "text/html"})
        assert answer.headers["x-frame-options"] == "DENY"


def test_ticket_is_given_to_the_owner_and_works_once(stack: Stack, anybody: httpx.Client) -> None:
    root = stack.prefect_ui_url
    assert anybody.post(f"{root}{TICKETS}").status_code == 401
    link = stack.sign_in_url(f"{root}/runs")
    ticket = link.removeprefix(f"{root}{SIGN_IN}#").removesuffix("/runs")
    assert ticket
    assert stack.credentials.prefect not in link
    assert anybody.post(f"{root}{SIGN_IN}", content="no-ticket").status_code == 403
    answers = [anybody.post(f"{root}{SIGN_IN}", content=ticket) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 403]
    signed_in = {"Authorization": f"Basic {answers[0].text}"}
    assert anybody.get("/deployments/name/train/train", headers=signed_in).is_success


def test_ticket_expires() -> None:
    tickets = Tickets(seconds=0)
    ticket = tickets.issue()
    assert not tickets.redeem(ticket)
    assert not tickets.redeem("")


def test_page_of_another_server_needs_no_ticket() -> None:
    root = "http://127.0.0.1:9"
    for url in ("https://prefect.example/runs", "http://127.0.0.1:90/", f"{root}/runs"):
        assert sign_in_url(root, "user:password", url) == url


def test_browser_is_started_with_a_page_that_its_owner_alone_can_read(tmp_path: Path) -> None:
    page = write_redirect(tmp_path, "http://127.0.0.1:4200/slipway/sign-in#x/</script>")
    assert page.stat().st_mode & 0o077 == 0
    assert page.read_text().count("</script>") == 1


def test_run_that_chooses_its_command_or_environment_is_refused(stack: Stack) -> None:
    with prefect_http(stack) as http:
        deployment = http.get("/deployments/name/train/train").raise_for_status().json()["id"]
        for variables in (
            {"command": "touch /tmp/slipway-attack"},
            {"env": {"SLIPWAY_LOCAL_APPROVAL": "none"}},
            {"env.PYTHONPATH": "/tmp"},
            {"working_dir": "/tmp"},
        ):
            answer = http.post(
                f"/deployments/{deployment}/create_flow_run", json={"job_variables": variables}
            )
            assert answer.is_client_error, variables
            assert "not allowed" in answer.text


@pytest.mark.usefixtures("shell")
async def test_worker_takes_neither_command_nor_environment_of_a_run() -> None:
    from prefect.workers.process import ProcessJobConfiguration, ProcessWorker

    template = fix_template(ProcessWorker.get_default_base_job_template(), "the-command --of=ours")
    values = {
        "command": "touch x",
        "env": {"A": "b"},
        "env.C": "d",
        "job_configuration.env": {"E": "f"},
        "working_dir": "/",
    }
    job: Any = await ProcessJobConfiguration.from_template_and_values(template, values)
    assert (job.command, job.env, job.working_dir) == ("the-command --of=ours", {}, None)


def test_client_asks_for_a_token_once_it_is_needed() -> None:
    seen: list[tuple[str, str, bool]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        has_token = request.headers.get("Prefect-Csrf-Token") == "t"
        seen.append((request.method, request.url.path, has_token))
        assert request.headers["Authorization"] == "Bearer k"
        if request.url.path == "/api/csrf-token":
            return httpx.Response(200, json={"token": "t"})
        return httpx.Response(200 if has_token or request.method == "GET" else 403)

    auth = ServerAuth("http://server/api", "Bearer k")
    with httpx.Client(transport=httpx.MockTransport(answer), auth=auth) as client:
        for method in ("GET", "POST", "PATCH"):
            assert client.request(method, "http://server/api/x", json={"a": 1}).is_success
    assert seen == [
        ("GET", "/api/x", False),
        ("POST", "/api/x", False),
        ("GET", "/api/csrf-token", False),
        ("POST", "/api/x", True),
        ("PATCH", "/api/x", True),
    ]


def test_refusal_of_a_server_without_tokens_is_its_own() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(404 if request.method == "GET" else 403, text="forbidden")

    auth = ServerAuth("http://server/api")
    with httpx.Client(transport=httpx.MockTransport(answer), auth=auth) as client:
        refused = client.post("http://server/api/x", json={})
    assert (refused.status_code, refused.text) == (403, "forbidden")
