"""Two versions go live, the second one is bad, and somebody or the watch goes back."""

from __future__ import annotations

import time

import httpx
import pytest

from tests.code.flows.conftest import Delivery
from tests.code.flows.harness import Lab
from tests.stack_access import prefect_http, wait_for_end

pytestmark = pytest.mark.timeout(900)


def _artifact(lab: Lab, key: str) -> str:
    """Return the data of the newest artifact of a key."""
    with prefect_http(lab.stack) as http:
        return str(http.get(f"/artifacts/{key}/latest").raise_for_status().json()["data"])


def test_rollback_deploy_and_rollback_by_the_watch(lab: Lab, delivered: Delivery) -> None:
    first = lab.live()["version"]
    assert lab.is_live(delivered.commit)
    bad = lab.commit(
        {"serving/settings.py": lambda old: old + "\n# bad\n"}, delivered.commit, "bad"
    )
    deploying = lab.start("deploy", {"ref": bad})
    deploying.wait_for(f"'preflight wine@{bad[:7]}' - Finished")

    # The rollback undoes what has gone live while it waited.
    with lab.traffic() as traffic:
        rollback = lab.run("rollback", {"environment": "local"})
    assert deploying.outcome().data["outcome"] == "live"
    assert traffic.failures == []
    assert rollback.state == "Completed", rollback.log
    assert (rollback.data["outcome"], rollback.data["version"]) == ("live", first)
    assert lab.live()["commit"] == delivered.commit
    tag = lab.git("cat-file", "-p", lab.live_tag())
    assert f"Before: wine@{bad[:7]}" in tag
    assert "Kind: rollback" in tag
    assert f"rolls back wine@{bad[:7]}" in _artifact(lab, "wine-local-release")
    assert "live, by a rollback" in _artifact(lab, "wine-local-timeline")

    # Requests that the watch below compares with.
    with lab.traffic(pause=0) as usual:
        while usual.answered < 60:
            time.sleep(0.05)
    assert usual.failures == []

    # What was rolled back is not deployed again by itself.
    again = lab.run("deploy", {"ref": bad})
    assert again.state == "Rejected"
    assert f"it was rolled back to {first} at " in again.message
    assert "; deploy a newer commit, or set force" in again.message
    assert lab.live()["commit"] == delivered.commit

    healthy = lab.run("status")
    assert healthy.state == "Completed", healthy.log
    statuses = {status["environment"]: status for status in healthy.data}
    assert (statuses["local"]["version"], statuses["local"]["commit"]) == (first, delivered.commit)
    assert statuses["local"]["health"] == "healthy"
    assert f"Flow-Run: {statuses['local']['flow_run']}" in tag
    assert statuses["docker"]["health"] == "never released"
    assert f"| healthy | wine | {first} |" in _artifact(lab, "environments")

    (server,) = lab.servers()
    lab.stack.supervisor.stop(server)
    unhealthy = lab.run("status", {"environment": "local"})
    assert unhealthy.state == "Unhealthy"
    assert (
        unhealthy.message
        == f"local: the server at {lab.url} reports another release, or does not answer"
    )

    # A newer commit is deployed, although its parent was rolled back.
    fixed = lab.commit({"serving/settings.py": lambda old: old + "\n# fixed\n"}, bad, "fixed")
    deployed = lab.run("deploy", {"ref": fixed}, SLIPWAY_LOCAL_WATCH="10m")
    assert deployed.data["outcome"] == "live", deployed.log

    # The worker watches it; it answers less than the version before, and is rolled back to that.
    (watch,) = lab.api.find_runs(flows=["watch"])
    with httpx.Client(trust_env=False, verify=False) as client:  # no TLS here
        for _ in range(60):
            assert client.post(f"{lab.url}/predict", json={}).status_code == 422
    watch = wait_for_end(lab.api, watch.id)
    assert watch.label == "RolledBack", f"{watch.label}: {watch.message}"
    assert "failed, of the version before's 0 of " in watch.message
    assert lab.live()["commit"] == delivered.commit
    assert len(lab.servers()) == 1
    tag = lab.git("cat-file", "-p", lab.live_tag())
    assert "Kind: rollback" in tag
    assert "Rollback-Reason: worse than the version before: " in tag
    assert "live, by a rollback: worse than" in _artifact(lab, "wine-local-timeline")
