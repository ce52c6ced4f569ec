"""The link that signs a browser in, and what a page of another site gets in that browser.

In a file of its own: as long as a browser runs, no other event loop can run in this thread.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest

from deployments.local.stack import Stack
from tests.stack_access import prefect_http

if TYPE_CHECKING:
    from playwright.sync_api import Browser

# What the page of another site tries: to read all blocks with their secrets, and to start a run.
ATTACK = """async ([api, deployment]) => {
  const results = [];
  for (const [path, mode] of [["/block_documents/filter", "cors"], ["/block_documents/filter",
      "no-cors"], [`/deployments/${deployment}/create_flow_run`, "no-cors"]]) {
    const body = JSON.stringify({include_secrets: true, job_variables: {command: "touch /tmp/x"}});
    const headers = {"Content-Type": mode == "cors" ? "application/json" : "text/plain"};
    try {
      const answer = await fetch(api + path, {method: "POST", mode, headers, body});
      results.push(answer.type == "opaque" ? "" : await answer.text());
    } catch (error) { results.push(""); }
  }
  return results;
}"""


@pytest.fixture
def foreign_page() -> Iterator[str]:
    """The address of an empty page of another origin."""

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Write no log."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Page)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


def test_link_signs_a_browser_in_and_a_foreign_page_in_it_gets_nothing(
    stack: Stack, browser: Browser, foreign_page: str
) -> None:
    with prefect_http(stack) as http:
        deployment = http.get("/deployments/name/train/train").raise_for_status().json()["id"]
        runs = http.post("/flow_runs/count", json={}).json()
    context = browser.new_context()
    page = context.new_page()
    link = stack.sign_in_url(f"{stack.prefect_ui_url}/deployments")
    page.goto(link)
    page.get_by_text("docker").first.wait_for()
    assert page.url == f"{stack.prefect_ui_url}/deployments"

    page.goto(foreign_page)
    assert page.evaluate(ATTACK, [stack.prefect_api_url, deployment]) == ["", "", ""]
    # A name of the attacker's that leads to loopback, as after DNS rebinding.
    rebound = stack.prefect_ui_url.replace("127.0.0.1", "rebound.localhost")
    answer = page.goto(rebound)
    assert answer
    assert answer.status == 400
    context.close()

    other = browser.new_context()
    page = other.new_page()
    page.goto(link)
    page.get_by_text("was used before").wait_for()
    other.close()
    with prefect_http(stack) as http:
        assert http.post("/flow_runs/count", json={}).json() == runs
