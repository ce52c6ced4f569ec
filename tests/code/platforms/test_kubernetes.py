"""Target `kubernetes` without containers: what it wants, how it takes what a cluster says."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from tasks.core.errors import ConfigurationError, TerminalError, TransientError
from tasks.package.package import Package
from tasks.platforms.kubernetes import manifests, rollouts
from tasks.platforms.kubernetes.access import Access
from tasks.platforms.kubernetes.cluster import Kind, connect
from tasks.platforms.kubernetes.manifests import Manifest, Released
from tasks.platforms.kubernetes.settings import KubernetesEnvironment
from tasks.platforms.kubernetes.target import KubernetesTarget
from tasks.platforms.kubernetes.workload import Before, Workload
from tasks.repository.workspace import Workspace
from tests.code.platforms.places import again
from tests.stand_ins.faults import KINDS as FAULTS
from tests.stand_ins.faults import Kind as Fault
from tests.stand_ins.kubernetes.cluster import NAMESPACE, StubCluster, repeated, serving_api
from tests.stand_ins.kubernetes.paper import PaperNode
from tests.stand_ins.kubernetes.store import now
from tests.stand_ins.serve import serving

_VERSIONS = kubernetes_validate.utils.all_versions()
_PLAIN = KubernetesEnvironment(
    name="paper",
    target="kubernetes",
    url="http://wine.example",
    repository="registry.example/wine",
    namespace=NAMESPACE,
    steady_seconds=0,
    keep=2,
)
_ALL = KubernetesEnvironment.model_validate(
    {
        **_PLAIN.model_dump(),
        "autoscale": {"min": 2, "max": 6},
        "service_type": "NodePort",
        "node_port": 30080,
        "ingress_host": "wine.example",
        "ingress_class": "nginx",
        "ingress_tls": "wine-tls",
        "pull_secret": "registry",
    }
)
_CRASHED = {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}
_NOT_PULLED = {"waiting": {"reason": "ImagePullBackOff", "message": "Back-off pulling image"}}
_NO_ROOM: dict[str, Any] = {}


def _released(number: int) -> Released:
    package = Package(
        workspace=Workspace(Path("nowhere"), "c" * 40, "main"),
        model="wine",
        commit=f"{number}" * 40,
        md5=f"{number}" * 32,
        sha256="",
        size=1,
        python="3.11.2",
        packages={},
        golden={},
        serving="s" * 16,
    )
    image = f"registry.example/wine@sha256:{str(number) * 64}"
    name = f"20261126T01500{number}-abcdef1-12ab"
    return Released(name, f"wine@v0.0.{number}", package, image, {"SLIPWAY_RELEASE": "{}"})


def _objects(environment: KubernetesEnvironment, number: int) -> dict[Kind, Manifest | None]:
    return {
        Kind.SERVICE: manifests.service(environment),
        Kind.DISRUPTION_BUDGET: manifests.disruption_budget(environment, "policy/v1"),
        Kind.DEPLOYMENT: manifests.deployment(environment, _released(number)),
        Kind.AUTOSCALER: manifests.autoscaler(environment),
        Kind.INGRESS: manifests.ingress(environment),
    }


def _manifests(environment: KubernetesEnvironment) -> list[Manifest]:
    others = [
        manifests.preflight_pod(environment, _released(1)),
        manifests.namespace(environment),
    ]
    return [item for item in _objects(environment, 1).values() if item] + others


# What is wanted


@pytest.mark.parametrize("version", [_VERSIONS[0], _VERSIONS[-1]])
@pytest.mark.parametrize("environment", [_PLAIN, _ALL], ids=["plain", "all"])
def test_manifests_match_published_schemas(
    environment: KubernetesEnvironment, version: str
) -> None:
    for manifest in _manifests(environment):
        kubernetes_validate.validate(manifests.record_manifest(manifest), version, strict=True)


def test_schemas_are_strict() -> None:
    manifest = manifests.deployment(_PLAIN, _released(1))
    manifest["spec"]["template"]["spec"]["containers"][0]["readyProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError, match="readyProbe"):
        kubernetes_validate.validate(manifest, _VERSIONS[-1], strict=True)


def test_pods_pass_pod_security_standard_restricted() -> None:
    for pod in (
        manifests.deployment(_PLAIN, _released(1))["spec"]["template"]["spec"],
        manifests.preflight_pod(_PLAIN, _released(1))["spec"],
    ):
        (container,) = pod["containers"]
        assert pod["securityContext"]["runAsNonRoot"]
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert "@sha256:" in container["image"]


def test_preflight_pod_has_no_traffic_and_a_deadline() -> None:
    pod = manifests.preflight_pod(_PLAIN, _released(1))
    chosen = manifests.service(_PLAIN)["spec"]["selector"].items()
    assert not chosen <= pod["metadata"]["labels"].items()
    assert (
        chosen
        <= manifests.deployment(_PLAIN, _released(1))["spec"]["template"]["metadata"][
            "labels"
        ].items()
    )
    assert pod["spec"]["activeDeadlineSeconds"]
    assert pod["spec"]["restartPolicy"] == "Never"


def test_prometheus_finds_servers_and_no_preflight() -> None:
    template = manifests.deployment(_PLAIN, _released(1))["spec"]["template"]
    notes = template["metadata"]["annotations"]
    (port,) = template["spec"]["containers"][0]["ports"]
    assert notes["prometheus.io/scrape"] == "true"
    assert notes["prometheus.io/port"] == str(port["containerPort"])
    preflight = manifests.preflight_pod(_PLAIN, _released(1))["metadata"]
    assert not [name for name in preflight.get("annotations", {}) if "prometheus" in name]


def test_autoscaler_alone_sets_replicas() -> None:
    assert "replicas" not in manifests.deployment(_ALL, _released(1))["spec"]
    assert manifests.deployment(_PLAIN, _released(1))["spec"]["replicas"] == 2


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"node_port": 30080}, "node_port needs service_type"),
        ({"ingress_class": "nginx"}, "need ingress_host"),
        ({"autoscale": {"min": 3, "max": 2}}, "autoscale.min is more"),
        ({"cpu": "much"}, "cpu"),
        ({"name": "Wine_1"}, "name"),
        ({"url": ""}, "url"),
    ],
)
def test_contradictory_settings_are_refused(wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        KubernetesEnvironment.model_validate({**_PLAIN.model_dump(), **wrong})


# How it takes what a cluster says


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.platforms.kubernetes.workload._POLL_SECONDS", 0.05)


@pytest.fixture
def stub(quick: None) -> Iterator[StubCluster]:
    with serving_api() as cluster:
        yield cluster


@pytest.fixture
def node(stub: StubCluster) -> Iterator[PaperNode]:
    paper = PaperNode(stub.store, NAMESPACE)
    with repeated(paper.step, stub.store):
        yield paper


@pytest.fixture
def new(stub: StubCluster, tmp_path: Path) -> Any:
    """A workload that remembers nothing, as every flow run has its own."""
    kubeconfig = stub.kubeconfig()

    def make(environment: KubernetesEnvironment = _PLAIN) -> Workload:
        return Workload(connect(Access("", ""), kubeconfig, NAMESPACE), environment)

    return make


@pytest.fixture
async def live(new: Any, node: PaperNode) -> str:
    """A release that is live, and the name of its ReplicaSet."""
    await new().make(_objects(_PLAIN, 1))
    await new().wait_for_rollout(_released(1).release, anew=True)
    (replica_set,) = await new().replica_sets()
    return str(replica_set["metadata"]["name"])


def _pods(stub: StubCluster) -> list[str]:
    return [
        item["metadata"]["labels"]["pod-template-hash"]
        for item in stub.store.list("pods", NAMESPACE)
    ]


def _deployment(stub: StubCluster) -> Manifest:
    return stub.store.get("deployments", NAMESPACE, "slipway-paper")


@pytest.mark.parametrize(
    ("fate", "says"),
    [
        (_CRASHED, "it ended: OOMKilled, exit code 137"),
        (_NOT_PULLED, "ImagePullBackOff: Back-off pulling image"),
        (_NO_ROOM, "Unschedulable: 0/1 nodes are available"),
    ],
    ids=["crashed", "not pulled", "no room"],
)
async def test_failed_rollout_is_explained_and_undone(
    stub: StubCluster, node: PaperNode, new: Any, live: str, fate: dict[str, Any], says: str
) -> None:
    hurried = _PLAIN.model_copy(update={"schedule_seconds": 1, "ready_seconds": 0.1})
    before = await new().read_before()
    node.fates[_released(2).release] = fate
    await new().make(_objects(hurried, 2))
    with pytest.raises(TerminalError, match=says):
        await new(hurried).wait_for_rollout(_released(2).release, anew=True)
    assert _pods(stub).count(live.rpartition("-")[2]) == 2, "the old ones serve on"
    serving = await new().serving()
    assert rollouts.release_of(serving) == _released(1).release

    await new().restore(before)
    await new().wait_for_rollout(_released(1).release, anew=False)
    assert {live.rpartition("-")[2]} == set(_pods(stub))
    assert len(_pods(stub)) == 2


async def test_quota_violation_fails_rollout_at_once(
    stub: StubCluster, node: PaperNode, new: Any, live: str
) -> None:
    node.fates[_released(2).release] = _NO_ROOM
    await new().make(_objects(_PLAIN, 2))
    with stub.store.lock:
        stored = stub.store.find("deployments", NAMESPACE, "slipway-paper")
        assert stored
    refused = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate",
               "message": 'pods "x" is forbidden: exceeded quota: small'}  # fmt: skip
    deployment = {**stored, "status": {"conditions": [refused]}}
    assert rollouts.trouble(deployment, []) == (refused["message"], "")


async def test_unfinished_rollout_of_killed_run_is_undone(
    stub: StubCluster, node: PaperNode, new: Any, live: str
) -> None:
    node.fates[_released(2).release] = _NOT_PULLED
    await new().make(_objects(_PLAIN, 2))
    assert rollouts.release_of(await new().serving()) == _released(1).release
    for _ in range(2):
        await new().recover()
    assert rollouts.release_of(_deployment(stub)) == _released(1).release
    assert {live.rpartition("-")[2]} == set(_pods(stub))
    assert [item["metadata"]["name"] for item in await new().replica_sets()] == [live]


async def test_rollback_ignores_overdue_state_of_failed_rollout(
    stub: StubCluster, node: PaperNode, new: Any, live: str
) -> None:
    node.fates[_released(1).release] = {"running": {"startedAt": now()}}  # none is ready for now
    while _deployment(stub)["status"]["availableReplicas"]:
        await asyncio.sleep(0.05)
    with stub.store.lock:
        stored = stub.store.find("deployments", NAMESPACE, "slipway-paper")
        assert stored
        stored["status"]["conditions"][0]["reason"] = "ProgressDeadlineExceeded"
    assert rollouts.is_overdue(_deployment(stub))
    back = asyncio.create_task(new().wait_for_rollout(_released(1).release, anew=False))
    await asyncio.sleep(0.5)
    assert rollouts.is_overdue(_deployment(stub))
    assert not back.done()
    node.fates.clear()
    await back


async def test_status_during_rollout_is_not_healthy(
    stub: StubCluster,
    node: PaperNode,
    new: Any,
    live: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "kubeconfig").write_text(stub.kubeconfig())
    monkeypatch.setattr(
        "kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "kubeconfig")
    )
    released = _released(1)

    async def answer(_: Request) -> JSONResponse:
        return JSONResponse({"release": released.release, "md5": released.package.md5})

    with serving(Starlette(routes=[Route("/version", answer)])) as url:
        target = KubernetesTarget(_PLAIN.model_copy(update={"url": url}))

        async def seen() -> tuple[str, bool]:
            status = await target.status()
            assert status
            return status.release, status.healthy

        assert await seen() == (released.release, True)
        node.fates[_released(2).release] = _NOT_PULLED
        await new().make(_objects(_PLAIN, 2))
        assert await seen() == (released.release, False)
        await new().recover()
        assert await seen() == (released.release, True)


async def test_rollback_keeps_manual_replicas(
    stub: StubCluster, node: PaperNode, new: Any, live: str
) -> None:
    with stub.store.lock:
        stored = stub.store.find("deployments", NAMESPACE, "slipway-paper")
        assert stored
        stored["spec"]["replicas"] = 4
        stored["metadata"]["generation"] += 1
    before = await new().read_before()
    await new().make(_objects(_PLAIN, 2))
    await new().restore(before)
    await new().wait_for_rollout(_released(1).release, anew=False)
    assert _deployment(stub)["spec"]["replicas"] == 4
    assert len(_pods(stub)) == 4


async def test_autoscaler_takes_over_present_replicas(
    stub: StubCluster, node: PaperNode, new: Any, live: str
) -> None:
    many = _PLAIN.model_copy(update={"replicas": 5})
    await new().make(_objects(many, 2))
    await new().wait_for_rollout(_released(2).release, anew=True)
    before = await new().read_before()
    await new().make(_objects(_ALL, 3))
    await new().wait_for_rollout(_released(3).release, anew=True)
    assert _deployment(stub)["spec"]["replicas"] == 5
    assert not rollouts.owns_replicas(_deployment(stub), "slipway")
    await new().restore(before)
    await new().wait_for_rollout(_released(2).release, anew=False)
    assert not stub.store.list("horizontalpodautoscalers", NAMESPACE)
    assert not stub.store.list("ingresses", NAMESPACE)
    assert _deployment(stub)["spec"]["replicas"] == 5


@pytest.fixture
async def scaled(stub: StubCluster, node: PaperNode, new: Any, live: str) -> None:
    """A release with an autoscaler, which has chosen 5 pods."""
    await new().make(_objects(_ALL, 2))
    await new().wait_for_rollout(_released(2).release, anew=True)
    with stub.store.lock:
        stored = stub.store.find("deployments", NAMESPACE, "slipway-paper")
        assert stored
        stored["spec"]["replicas"] = 5
        stored["metadata"]["generation"] += 1
    await new().wait_for_rollout(_released(2).release, anew=False)


@pytest.mark.usefixtures("scaled")
@pytest.mark.parametrize("autoscaler_goes", [True, False])
async def test_rollback_keeps_replicas_of_autoscaler(
    stub: StubCluster, node: PaperNode, new: Any, autoscaler_goes: bool
) -> None:
    before = await new().read_before()
    node.fates[_released(3).release] = _NOT_PULLED
    if autoscaler_goes:
        await new().make(_objects(_PLAIN, 3))
        assert not stub.store.list("horizontalpodautoscalers", NAMESPACE)
    else:
        path = "/apis/autoscaling/v1/namespaces/models/horizontalpodautoscalers/slipway-paper"
        stub.faults.always("500", f"DELETE {path}")
        with pytest.raises(TransientError):
            await new().make(_objects(_PLAIN, 3))
    for _ in range(2):
        await new().restore(before)
    await new().wait_for_rollout(_released(2).release, anew=False)
    assert _deployment(stub)["spec"]["replicas"] == 5
    assert not rollouts.owns_replicas(_deployment(stub), "slipway")
    assert stub.store.list("horizontalpodautoscalers", NAMESPACE)


@pytest.mark.usefixtures("scaled")
async def test_undoing_rollout_of_killed_run_keeps_replicas(
    stub: StubCluster, node: PaperNode, new: Any
) -> None:
    node.fates[_released(3).release] = _NOT_PULLED
    await new().make(_objects(_PLAIN, 3))  # which says 2
    for _ in range(2):
        await new().recover()
    assert rollouts.release_of(_deployment(stub)) == _released(2).release
    assert _deployment(stub)["spec"]["replicas"] == 2


async def test_foreign_labels_stay(stub: StubCluster, node: PaperNode, new: Any, live: str) -> None:
    with stub.store.lock:
        stored = stub.store.find("deployments", NAMESPACE, "slipway-paper")
        assert stored
        stored["metadata"]["labels"]["team"] = "vineyard"
    await new().make(_objects(_PLAIN, 2))
    assert _deployment(stub)["metadata"]["labels"]["team"] == "vineyard"


async def test_foreign_objects_are_left_alone(stub: StubCluster, new: Any) -> None:
    with stub.store.lock:
        stub.store.create("services", {"apiVersion": "v1", "kind": "Service",
            "metadata": {"name": "slipway-paper", "namespace": NAMESPACE}, "spec": {}})  # fmt: skip
    with pytest.raises(ConfigurationError, match="belong to somebody else"):
        await new().read_before()


@pytest.mark.parametrize("kind", FAULTS)
async def test_every_call_may_fail_once(
    stub: StubCluster,
    node: PaperNode,
    new: Any,
    live: str,
    kind: Fault,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if kind == "hang":  # for longer than that
        monkeypatch.setattr("tasks.platforms.kubernetes.cluster._SECONDS", 0.7)
    workload, pod = new(), manifests.preflight_pod(_ALL, _released(2))
    stub.faults.fail_each_call(kind)
    before: list[Before] = []

    async def remember() -> None:
        before.append(await workload.read_before())

    steps = [
        lambda: workload.run_preflight_pod(pod),
        workload.recover,
        remember,
        lambda: workload.make(_objects(_ALL, 2)),
        lambda: workload.wait_for_rollout(_released(2).release, anew=True),
        lambda: workload.restore(before[0]),
        lambda: workload.wait_for_rollout(_released(1).release, anew=False),
    ]
    for step in steps:
        await again(step)
    assert len(stub.faults.calls) >= 16
    stub.faults.clear()
    sets = await workload.replica_sets()
    assert [rollouts.release_of(item) for item in sets] == [_released(n).release for n in (1, 2)]
    assert {live.rpartition("-")[2]} == set(_pods(stub))
    assert not stub.store.list("pods", NAMESPACE, {manifests.COMPONENT: manifests.PREFLIGHT})


async def test_permanent_failure_leaves_everything_unchanged(
    stub: StubCluster, node: PaperNode, new: Any, live: str
) -> None:
    before, seen = await new().read_before(), _deployment(stub)
    stub.faults.always("500", "PATCH /apis/apps/v1/namespaces/models/deployments/slipway-paper")
    with pytest.raises(TransientError, match="etcdserver: request timed out"):
        await new().make(_objects(_ALL, 2))
    await new().restore(before)
    await new().wait_for_rollout(_released(1).release, anew=False)
    assert _deployment(stub)["spec"] == seen["spec"]
    (service,) = stub.store.list("services", NAMESPACE)
    assert service["spec"]["type"] == "ClusterIP"


async def test_secrets_of_other_releases_are_deleted(
    stub: StubCluster, node: PaperNode, new: Any, live: str
) -> None:
    for number in (1, 2):
        released = replace(_released(number), secrets={"API_TOKEN": "hush"})
        await new().make_secret(manifests.secret(_PLAIN, released))
        await new().make_secret(manifests.secret(_PLAIN, released))
    assert len(stub.store.list("secrets", NAMESPACE)) == 2
    await new().drop_secrets({_released(1).release})
    (secret,) = stub.store.list("secrets", NAMESPACE)
    assert secret["metadata"]["labels"][manifests.RELEASE] == _released(1).release
    stub.server.forbidden.add(("list", "secrets"))
    await new().drop_secrets(())  # without `secrets`, the role may lack the right
    assert stub.store.list("secrets", NAMESPACE)


# How a cluster is reached


async def test_refused_token_is_explained_and_changes_nothing(
    stub: StubCluster, tmp_path: Path
) -> None:
    kubeconfig = stub.kubeconfig("old")
    workload = Workload(connect(Access("slipway-kubeconfig", ""), kubeconfig, NAMESPACE), _PLAIN)
    with pytest.raises(TerminalError, match="block secret/slipway-kubeconfig: 401") as refusal:
        await workload.make(_objects(_PLAIN, 1))
    assert "SLIPWAY_KUBECONFIG" in refusal.value.next_step
    assert not stub.store.list("services", NAMESPACE)


async def test_refused_token_of_own_block_names_the_block(stub: StubCluster) -> None:
    workload = Workload(connect(Access("our-own", ""), stub.kubeconfig("old"), NAMESPACE), _PLAIN)
    with pytest.raises(TerminalError, match="block secret/our-own: 401") as refusal:
        await workload.replica_sets()
    assert "create or correct block our-own" in refusal.value.next_step


async def test_missing_api_names_the_oldest_version(stub: StubCluster) -> None:
    cluster = connect(Access("", ""), stub.kubeconfig(), NAMESPACE)
    ingress = manifests.ingress(_ALL)
    assert ingress
    with pytest.raises(TerminalError, match="the cluster does not know PATCH") as refusal:
        cluster.apply(Kind.INGRESS, {**ingress, "apiVersion": "networking.k8s.io/v0"})
    assert "kubectl version" in refusal.value.next_step


async def test_missing_namespace_is_reported_or_created(stub: StubCluster, tmp_path: Path) -> None:
    kubeconfig = stub.kubeconfig()
    elsewhere = _PLAIN.model_copy(update={"namespace": "elsewhere"})
    workload = Workload(connect(Access("", ""), kubeconfig, "elsewhere"), elsewhere)
    with pytest.raises(TerminalError, match="has no namespace elsewhere"):
        await workload.make(_objects(elsewhere, 1))
    await workload.make_namespace()
    await workload.make_namespace()
    await workload.make(_objects(elsewhere, 1))


@pytest.mark.parametrize(
    ("kubeconfig", "says"),
    [
        ("hush: [", "ScannerError|ParserError"),
        ("hush", "it is no kubeconfig"),
        ('{"current-context": "a", "contexts": []}', "no cluster can be reached"),
    ],
)
def test_invalid_kubeconfig_is_not_shown(kubeconfig: str, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says) as refusal:
        connect(Access("slipway-kubeconfig", ""), kubeconfig, NAMESPACE)
    assert "hush" not in str(refusal.value)
    assert "block secret/slipway-kubeconfig" in refusal.value.what


async def test_unreachable_cluster_is_transient(tmp_path: Path) -> None:
    with serving_api() as stub:
        kubeconfig = stub.kubeconfig()
    workload = Workload(connect(Access("", ""), kubeconfig, NAMESPACE), _PLAIN)
    with pytest.raises(TransientError, match="the cluster does not answer") as refusal:
        await workload.replica_sets()
    assert refusal.value.state == "what is live goes on serving"


async def test_old_server_gets_old_disruption_budget(tmp_path: Path, quick: None) -> None:
    with serving_api("1.20.2") as stub:
        kubeconfig = stub.kubeconfig()
        cluster = connect(Access("", ""), kubeconfig, NAMESPACE)
        assert cluster.policy() == "policy/v1beta1"
        budget = manifests.record_manifest(manifests.disruption_budget(_PLAIN, cluster.policy()))
        cluster.apply(Kind.DISRUPTION_BUDGET, budget)
        stored = cluster.find(Kind.DISRUPTION_BUDGET, "slipway-paper")
        assert stored
        assert json.loads(stored["metadata"]["annotations"][manifests.APPLIED])


async def test_check_names_missing_rights_and_namespace(
    stub: StubCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "kubeconfig").write_text(stub.kubeconfig())
    monkeypatch.setattr(
        "kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "kubeconfig")
    )
    elsewhere = _PLAIN.model_copy(update={"namespace": "elsewhere"})
    with pytest.raises(TerminalError, match="the cluster has no namespace elsewhere"):
        await KubernetesTarget(elsewhere).check()
    stub.server.forbidden.add(("patch", "deployments"))
    with pytest.raises(TerminalError, match="user may not patch deployments in namespace models"):
        await KubernetesTarget(_PLAIN).check()
    stub.server.forbidden = {("create", "namespaces")}
    with pytest.raises(
        TerminalError, match="user may not create namespaces in namespace elsewhere"
    ):
        await KubernetesTarget(elsewhere.model_copy(update={"create_namespace": True})).check()
    assert not [call for call in stub.faults.calls if call.startswith(("PATCH", "DELETE"))]
