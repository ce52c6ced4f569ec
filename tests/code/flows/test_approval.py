"""A person approves or rejects a release, through the real worker."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from deployments.prefect_api.models import FlowRun
from deployments.prefect_api.release_note import ReleaseNote, read_release_note
from tests.code.flows.conftest import Delivery
from tests.code.flows.harness import SECONDS, Lab
from tests.stack_access import prefect_http

if TYPE_CHECKING:
    from playwright.sync_api import Page

# The fixtures deliver a model, and a test waits for several runs.
pytestmark = pytest.mark.timeout(900)


class Approvals:
    """Deploy runs to production, where each is to be approved."""

    def __init__(self, lab: Lab, http: httpx.Client) -> None:
        self.lab = lab
        self._http = http

    def post(self, path: str, body: dict[str, Any]) -> Any:
        return self._http.post(path, json=body).raise_for_status().json()

    def start(self, ref: str, environment: str = "production") -> str:
        """Create a run for the worker."""
        deployment = self._http.get(f"/deployments/name/deploy/{environment}").raise_for_status()
        body = {"parameters": {"ref": ref}}
        return str(self.post(f"/deployments/{deployment.json()['id']}/create_flow_run", body)["id"])

    def wait(self, run_id: str, *labels: str) -> FlowRun:
        """Wait until a run is in one of some states."""
        deadline = time.monotonic() + SECONDS
        while (run := self.lab.api.read_run(run_id)).label not in labels:
            assert not run.finished, f"{run.label}: {run.message}"
            assert time.monotonic() < deadline, f"{run.label}: {run.message}"
            time.sleep(0.5)
        return run

    def states(self, run_id: str) -> list[str]:
        """The names of the states that a run was in."""
        answer = self._http.get("/flow_run_states/", params={"flow_run_id": run_id})
        return [state["name"] for state in answer.raise_for_status().json()]

    def start_and_suspend(self, ref: str) -> str:
        """Start a run, and wait until it shows its form."""
        run_id = self.start(ref)
        self.wait(run_id, "Suspended")
        deadline = time.monotonic() + SECONDS
        while not self._has_form(run_id):  # Prefect stores it after it has suspended the run
            assert time.monotonic() < deadline, "it has no form"
            time.sleep(0.1)
        return run_id

    def _has_form(self, run_id: str) -> bool:
        keys = self._keys(run_id).values()
        codes = [self._http.get(f"/flow_runs/{run_id}/input/{key}").status_code for key in keys]
        return codes.count(200) == 2  # the third is the answer

    def answer(self, run_id: str, **run_input: str) -> Any:
        """Send what the form in the UI sends."""
        return self.post(f"/flow_runs/{run_id}/resume", {"run_input": run_input})

    def form(self, run_id: str, part: str) -> str:
        """Return the description of the form, or the schema of the answer."""
        key = self._keys(run_id)[part]
        answer = self._http.get(f"/flow_runs/{run_id}/input/{key}").raise_for_status()
        return str(answer.json() if part == "description" else answer.text)

    def _keys(self, run_id: str) -> dict[str, str]:
        state = self._http.get(f"/flow_runs/{run_id}").raise_for_status().json()["state"]
        return dict(state["state_details"]["run_input_keyset"])

    def live(self) -> str | None:
        """The commit that is live in production."""
        try:
            answer = httpx.get(
                f"{self.lab.stack.model_url('production')}/version", timeout=10, trust_env=False
            )
        except httpx.HTTPError:
            return None
        return str(answer.json()["commit"]) if answer.status_code == 200 else None

    def note(self, run_id: str) -> ReleaseNote:
        """Return the release note of a run."""
        note = read_release_note(self.lab.api, run_id)
        assert note
        return note

    def newest_tag(self) -> str:
        """Message of the newest tag of production's history."""
        pattern = "refs/tags/wine#production#*"
        return self.lab.git(
            "for-each-ref", "--sort=-version:refname", "--count=1", "--format=%(contents)", pattern
        )


@pytest.fixture(scope="module")
def approvals(lab: Lab, delivered: Delivery) -> Iterator[Approvals]:
    with prefect_http(lab.stack) as http:
        yield Approvals(lab, http)


def _child(lab: Lab, base: str, branch: str) -> str:
    """A commit that is to be released, though its model is the same; a person has signed it."""
    note = f"\n# {branch}\n"
    changes = {"serving/settings.py": lambda old: old + note}
    return lab.commit(changes, base, branch, signed=True)


def test_suspended_deploy_blocks_nobody_and_releases_the_approved_commit(
    lab: Lab, delivered: Delivery, approvals: Approvals
) -> None:
    approved = _child(lab, delivered.commit, "to-approve")
    run_id = approvals.start_and_suspend("to-approve")

    text = approvals.form(run_id, "description")
    assert f"Release wine@{approved[:7]} to production?" in text
    assert "Gate: passed: f1_macro " in text
    assert "Preflight: **passed**" in text
    assert "| f1_macro | " in text
    assert "](data:image/png;base64," in text
    assert approvals.live() is None
    bundles = lab.stack.home / "bundles" / "production"
    assert not list(bundles.iterdir()), "preflight leaves nothing behind"

    # It has neither the environment's lock nor the deployment's only slot: others get through.
    _child(lab, delivered.commit, "to-reject")
    rejected = approvals.start_and_suspend("to-reject")
    tags = lab.git("tag")
    approvals.answer(rejected, decision="reject", reason="not on a Friday")
    run = approvals.wait(rejected, "Rejected")
    assert (run.state, run.succeeded) == ("FAILED", False), "CI must not take it for a release"
    assert "rejected: not on a Friday" in run.message
    note = approvals.note(rejected)
    assert (note.data.outcome, note.data.reason) == ("rejected", "rejected: not on a Friday")
    assert "not on a Friday" in note.markdown
    assert approvals.live() is None
    assert lab.git("tag") == tags

    for wrong in ({}, {"decision": "perhaps"}, {"decision": "approve", "who": "me"}):
        assert approvals.answer(run_id, **wrong)["status"] == "REJECT"
    assert lab.api.read_run(run_id).label == "Suspended"

    moved = _child(lab, approved, "to-approve")
    assert approvals.answer(run_id, decision="approve", reason="Jo:\nfine")["status"] == "ACCEPT"
    assert approvals.wait(run_id, "Completed").succeeded
    assert approvals.live() == approved != moved
    note = approvals.note(run_id)
    assert note.data.outcome == "live"
    assert "approved: Jo:" in note.markdown
    assert "| gate | passed: f1_macro " in note.markdown
    assert "Approval: approved: Jo: fine" in approvals.newest_tag()
    assert f"Flow-Run: {run_id}" in approvals.newest_tag()


def _accept_everything(parameters: str) -> str:
    return parameters.replace("minimum: 0.9", "minimum: 0.0").replace(
        "tolerance: 0.01", "tolerance: 1"
    )


_CODE = {"serving/settings.py": lambda old: old + "# Not signed.\n"}  # else it is live already
_WORSE = {
    "reports/metrics.json": '{"f1_macro": 0.3}', "params.yaml": _accept_everything, **_CODE
}  # fmt: skip


@pytest.mark.parametrize(
    ("branch", "changes", "problem"),
    [
        ("sneaky", _WORSE, "is on no branch from which production may be deployed (main, to-*)"),
        (
            "to-be-signed",
            _WORSE,  # whose model the gate would start
            "has no valid signature, which production requires: ",
        ),
    ],
    ids=["branch", "signature"],
)
def test_what_the_policy_does_not_allow_is_refused_before_anything_is_built(
    lab: Lab,
    delivered: Delivery,
    approvals: Approvals,
    branch: str,
    changes: dict[str, Any],
    problem: str,
) -> None:
    before = approvals.live()
    commit = lab.commit(changes, before or delivered.commit, branch)
    run_id = approvals.start(branch)
    run = approvals.wait(run_id, "Failed")
    assert f"wine@{commit[:7]} {problem}" in run.message
    note = approvals.note(run_id)
    assert (note.data.outcome, approvals.live()) == ("rejected", before)
    assert note.data.state.startswith("nothing was released; ")
    assert not list((lab.stack.home / "bundles" / "production").glob(f"*{commit[:7]}*"))


def test_deploy_without_an_answer_fails(
    lab: Lab, delivered: Delivery, approvals: Approvals
) -> None:
    _child(lab, delivered.commit, "too-late")
    run_id = approvals.start("too-late", "impatient")
    run = approvals.wait(run_id, "Failed")
    assert run.message == "The flow was paused and never resumed."
    late = approvals.answer(run_id, decision="approve")
    assert late["status"] == "ABORT"
    retry = {"state": {"type": "SCHEDULED", "name": "AwaitingRetry"}}  # as the UI's Retry does
    approvals.post(f"/flow_runs/{run_id}/set_state", retry)
    approvals.wait(run_id, "Suspended", "Failed")  # it may be over between two looks
    approvals.wait(run_id, "Failed")
    assert approvals.states(run_id).count("Suspended") == 2
    assert lab.git("tag", "--list", "*#impatient#*") == ""


def test_run_without_a_deployment_cannot_wait(lab: Lab, delivered: Delivery) -> None:
    refused = lab.run("deploy", {"environment": "production"})
    assert refused.error == "ConfigurationError"
    assert "a release to production needs an approval" in refused.message
    assert "prefect deployment run deploy/production" in refused.message
    assert "checked out" not in refused.log


def test_person_reads_the_form_and_rejects(
    lab: Lab, delivered: Delivery, approvals: Approvals, visit: Callable[..., Page]
) -> None:
    before = approvals.live()
    approved = _child(lab, before or delivered.commit, "to-read")
    run_id = approvals.start_and_suspend("to-read")
    url = lab.api.approval_url(lab.api.read_run(run_id))
    page = visit(lab.stack.sign_in_url(url), ours=False)
    page.get_by_role("button", name="Resume").click()
    form = page.get_by_role("dialog")
    form.get_by_text(f"Release wine@{approved[:7]} to production?").wait_for()
    picture = form.locator("img")
    picture.wait_for()
    assert picture.evaluate("image => image.decode().then(() => image.naturalWidth)") > 300
    form.locator("button[class*=select]").focus()
    page.keyboard.press("ArrowDown")
    page.locator(".p-select-option", has_text="reject").click()
    form.locator("textarea").fill("read in a browser")
    form.get_by_role("button", name="Submit").click()
    run = approvals.wait(run_id, "Rejected")
    assert "read in a browser" in run.message
    assert approvals.live() == before
