"""Two versions go live, the second one is bad, and somebody goes back."""

from __future__ import annotations

import httpx
import pytest

from tests.code.flows.conftest import Delivery
from tests.code.flows.harness import Lab

pytestmark = pytest.mark.timeout(900)


def _shown(lab: Lab, key: str) -> str:
    """The newest artifact of a key."""
    url = f"{lab.stack.prefect_api_url}/artifacts/{key}/latest"
    return str(httpx.get(url, trust_env=False).raise_for_status().json()["data"])


def test_rollback_deploy_and_rollback_to_a_named_version(lab: Lab, delivered: Delivery) -> None:
    first = lab.live()["version"]
    assert lab.is_live(delivered.commit)
    bad = lab.commit(
        {"serving/settings.py": lambda old: old + "\n# bad\n"}, delivered.commit, "bad"
    )
    going = lab.start("deploy", {"ref": bad})
    going.wait_for(f"'preflight wine@{bad[:7]}' - Finished")

    # The rollback undoes what has gone live while it waited, and needs no approval.
    with lab.traffic() as traffic:
        back = lab.run("rollback", {"environment": "local"}, SLIPWAY_LOCAL_APPROVAL="suspend")
    assert going.outcome().data["outcome"] == "live"
    assert traffic.failures == []
    assert back.state == "Completed", back.log
    assert (back.data["outcome"], back.data["version"]) == ("live", first)
    assert lab.live()["commit"] == delivered.commit
    tag = lab.git("cat-file", "-p", lab.live_tag())
    assert f"Before: wine@{bad[:7]}" in tag
    assert "Kind: rollback" in tag
    assert f"rolls back wine@{bad[:7]}" in _shown(lab, "wine-local-release")
    assert "live, by a rollback" in _shown(lab, "wine-local-timeline")

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
    assert f"| healthy | wine | {first} |" in _shown(lab, "environments")

    (server,) = lab.servers()
    lab.stack.supervisor.stop(server)
    ill = lab.run("status", {"environment": "local"})
    assert ill.state == "Unhealthy"
    assert (
        ill.message == f"local: the server at {lab.url} reports another release, or does not answer"
    )

    # A newer commit is deployed, although its parent was rolled back.
    fixed = lab.commit({"serving/settings.py": lambda old: old + "\n# fixed\n"}, bad, "fixed")
    assert lab.run("deploy", {"ref": fixed}).data["outcome"] == "live"
    named = lab.run("rollback", {"environment": "local", "version": f"wine@{first}"})
    assert named.state == "Completed", named.log
    assert lab.live()["commit"] == delivered.commit
    assert len(lab.servers()) == 1
