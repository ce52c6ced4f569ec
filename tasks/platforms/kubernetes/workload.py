"""The objects of one environment in a cluster: read them, make them, wait for them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass

import anyio

from tasks.core.errors import ConfigurationError, TerminalError
from tasks.core.threads import in_thread
from tasks.platforms.base.libraries import library_error
from tasks.platforms.base.no_answer import UNCHANGED
from tasks.platforms.kubernetes import manifests, rollouts
from tasks.platforms.kubernetes.cluster import MANAGER, Cluster, Kind
from tasks.platforms.kubernetes.manifests import APPLIED, COMPONENT, PREFLIGHT, SERVER, Manifest
from tasks.platforms.kubernetes.settings import KubernetesEnvironment

# In this order they are made: a service before its pods.
KINDS = (
    Kind.SERVICE,
    Kind.DISRUPTION_BUDGET,
    Kind.DEPLOYMENT,
    Kind.AUTOSCALER,
    Kind.INGRESS,
)
_POLL_SECONDS = 0.5
_MARGIN_SECONDS = 20
# In whose name the number of replicas is handed on to an autoscaler.
_HANDOVER = f"{MANAGER}-handover"


@dataclass(frozen=True)
class Before:
    """The objects of an environment before a deploy.

    Attributes:
        manifests: The applied manifest of each kind, None if there was none.
        replicas: The number of replicas, whoever had set it.
    """

    manifests: Mapping[Kind, Manifest | None]
    replicas: int | None


class Workload:
    """The objects of an environment in a cluster."""

    def __init__(self, cluster: Cluster, environment: KubernetesEnvironment) -> None:
        self._cluster = cluster
        self._environment = environment
        self._name = manifests.object_name(environment)
        self._ours = manifests.labels(environment)

    async def replica_sets(self) -> list[Manifest]:
        """List its ReplicaSets, the newest first: one for each release that is kept."""
        replica_sets = await in_thread(self._cluster.list, Kind.REPLICA_SET, self._ours)
        return rollouts.by_age(replica_sets)

    async def serving(self) -> Manifest | None:
        """Return the ReplicaSet that serves; None if there is none."""
        deployment = await self._deployment()
        return rollouts.serving(deployment, await self.replica_sets()) if deployment else None

    async def runs_only(self, release: str) -> bool:
        """Return whether all pods are of a release and no rollout is running."""
        deployment = await self._deployment()
        return (
            deployment is not None
            and rollouts.release_of(deployment) == release
            and rollouts.is_complete(deployment)
        )

    async def read_before(self) -> Before:
        """Read what was applied before, to apply it again in a rollback.

        Raises:
            ConfigurationError: There are objects of these names that are not ours.
        """
        applied: dict[Kind, Manifest | None] = {}
        for kind in KINDS:
            there = await in_thread(self._cluster.find, kind, self._name)
            applied[kind] = there and _applied(there)
            if there and not applied[kind]:
                raise ConfigurationError(
                    f"{kind.value} {self._name} in namespace {self._environment.namespace}"
                    " belong to somebody else",
                    state="nothing was changed",
                    next_step="set another `namespace` in the environment's file, or remove them",
                )
        deployment = await self._deployment()
        replicas = deployment["spec"]["replicas"] if deployment else None
        if manifest := applied[Kind.DEPLOYMENT]:
            applied[Kind.DEPLOYMENT] = _with_its_replicas(manifest, replicas)
        return Before(applied, replicas)

    async def make(
        self, objects: Mapping[Kind, Manifest | None], replicas: int | None = None
    ) -> None:
        """Make these objects what they should be, in the order of `KINDS`.

        Args:
            objects: The manifest of each kind; None deletes the object.
            replicas: Number of replicas to hand over if the Deployment leaves that to others from
                now on; None for the present number.
        """
        deployment = objects.get(Kind.DEPLOYMENT)
        if deployment and "replicas" not in deployment["spec"]:
            await self._hand_over(replicas)
        for kind in KINDS:
            if kind not in objects:
                continue
            if manifest := objects[kind]:
                await in_thread(self._cluster.apply, kind, manifests.record_manifest(manifest))
            elif await in_thread(self._cluster.find, kind, self._name):
                await in_thread(self._cluster.delete, kind, self._name)

    async def restore(self, before: Before) -> None:
        """Apply the earlier manifests of objects that have changed."""
        changed = {}
        for kind, manifest in before.manifests.items():
            there = await in_thread(self._cluster.find, kind, self._name)
            if (there and _applied(there)) != manifest:
                changed[kind] = manifest
        await self.make(changed, before.replicas)

    async def make_namespace(self) -> None:
        """Create the namespace if it is not there."""
        manifest = manifests.namespace(self._environment)
        name = manifest["metadata"]["name"]
        if not await in_thread(self._cluster.find, Kind.NAMESPACE, name):
            await in_thread(self._cluster.apply, Kind.NAMESPACE, manifest)

    async def make_secret(self, secret: Manifest | None) -> None:
        """Make the Secret of a release, if the release has one."""
        if secret:
            await in_thread(self._cluster.apply, Kind.SECRET, secret)

    async def drop_secrets(self, keep: Collection[str]) -> None:
        """Delete the Secrets of all other releases, if the kubeconfig's user may list them."""
        may = bool(self._environment.secrets) or await in_thread(
            self._cluster.may, "list", Kind.SECRET
        )
        for secret in await in_thread(self._cluster.list, Kind.SECRET, self._ours) if may else ():
            if secret["metadata"]["labels"].get(manifests.RELEASE) not in keep:
                name = secret["metadata"]["name"]
                await in_thread(self._cluster.delete, Kind.SECRET, name)

    async def run_preflight_pod(self, pod: Manifest) -> None:
        """Run a pod without traffic until it is ready, and delete it.

        Raises:
            TerminalError: It cannot be started, ends, or does not get ready.
        """
        name = pod["metadata"]["name"]
        await self.delete_preflight_pods()
        try:
            await in_thread(self._cluster.apply, Kind.POD, pod)
            await self._ready(name)
        finally:
            with anyio.CancelScope(shield=True):
                await self.delete_preflight_pods()

    async def delete_preflight_pods(self) -> None:
        """Delete the pods of preflights, also those that a killed run has left."""
        for pod in await self._pods(PREFLIGHT):
            await in_thread(self._cluster.delete, Kind.POD, pod["metadata"]["name"])
        await self._wait_until_ended(PREFLIGHT)

    async def wait_for_rollout(self, release: str, *, anew: bool) -> None:
        """Wait until all pods are of a release, are ready, and no others are left.

        Args:
            anew: True for the first rollout of the release, when no condition is an old one.

        Raises:
            TerminalError: It will not come to that.
        """
        loop = asyncio.get_running_loop()
        counts, since = None, loop.time()
        while True:
            deployment, pods = await self._deployment(), await self._pods(SERVER)
            if deployment is None or rollouts.release_of(deployment) != release:
                raise _rollout_error(f"somebody else has changed {self._name} meanwhile")
            ours = [pod for pod in pods if rollouts.is_of(pod, release)]
            if rollouts.is_complete(deployment):
                await self._wait_until_ended(SERVER, lambda pod: not rollouts.is_of(pod, release))
                return
            if anew and (trouble := rollouts.trouble(deployment, ours)):
                raise await self._not_ready(*trouble)
            now = rollouts.counts(deployment)
            if now != counts:
                counts, since = now, loop.time()
            late = loop.time() - since > manifests.progress_seconds(self._environment)
            if late or (anew and rollouts.is_overdue(deployment)):
                raise await self._not_ready(*rollouts.delay(ours))
            await asyncio.sleep(_POLL_SECONDS)

    async def recover(self) -> None:
        """Undo the unfinished rollout of a killed run, if there is one."""
        deployment, sets = await self._deployment(), await self.replica_sets()
        serving = rollouts.serving(deployment, sets) if deployment else None
        if deployment is None or serving is None or rollouts.same(deployment, serving):
            return
        if applied := _applied(serving):
            manifest = _with_its_replicas(applied, deployment["spec"]["replicas"])
            await self.make({Kind.DEPLOYMENT: manifest})
            await self.wait_for_rollout(rollouts.release_of(serving), anew=False)
            # List them again: the cluster may have made one after the first look.
            left = await self.replica_sets()
            await self.drop(
                replica_set for replica_set in left if rollouts.same(replica_set, deployment)
            )

    async def wait_until_gone(self, release: str = "") -> None:
        """Wait until no pod is left, or none of a release."""
        await self._wait_until_ended(
            SERVER, lambda pod: not release or rollouts.is_of(pod, release)
        )

    async def drop(self, replica_sets: Iterable[Manifest]) -> None:
        """Delete ReplicaSets that no longer serve."""
        for replica_set in replica_sets:
            name = replica_set["metadata"]["name"]
            await in_thread(self._cluster.delete, Kind.REPLICA_SET, name)

    def crashed(self, release: str) -> bool:
        """Return whether a pod of a release has ended."""
        return any(map(rollouts.trouble_of, self._list(SERVER, release)))

    def last_lines(self, release: str) -> str:
        """Return the last lines of the logs of a release's pods."""
        names = [pod["metadata"]["name"] for pod in self._list(SERVER, release)]
        return "\n".join(filter(None, map(self._cluster.last_lines, names)))

    async def _deployment(self) -> Manifest | None:
        return await in_thread(self._cluster.find, Kind.DEPLOYMENT, self._name)

    async def _pods(self, component: str) -> list[Manifest]:
        return await in_thread(self._list, component)

    def _list(self, component: str, release: str = "") -> list[Manifest]:
        pods = self._cluster.list(Kind.POD, {**self._ours, COMPONENT: component})
        return [pod for pod in pods if not release or rollouts.is_of(pod, release)]

    async def _ready(self, name: str) -> None:
        why: str | None = "it was not looked at"
        try:
            async with asyncio.timeout(manifests.progress_seconds(self._environment)):
                while why:
                    pod = await in_thread(self._cluster.find, Kind.POD, name)
                    if pod is None:
                        raise _rollout_error("somebody has removed the pod of the preflight")
                    if trouble := rollouts.trouble_of(pod) or rollouts.refusal(pod):
                        raise await self._not_ready(trouble, name)
                    if why := rollouts.waits_for(pod):
                        await asyncio.sleep(_POLL_SECONDS)
        except TimeoutError:
            raise await self._not_ready(str(why), name) from None

    async def _not_ready(self, why: str, pod: str) -> TerminalError:
        log = await in_thread(self._cluster.last_lines, pod) if pod else ""
        return library_error(log, self._environment.base) or _rollout_error(
            f"{pod or self._name} does not get ready in the cluster: {why}\n{log}"
        )

    async def _wait_until_ended(
        self, component: str, doomed: Callable[[Manifest], bool] = lambda _: True
    ) -> None:
        """Wait for pods to end, for a limited time: pods of a dead node never do."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + manifests.termination_seconds(self._environment) + _MARGIN_SECONDS
        while loop.time() < deadline:
            if not any(map(doomed, await self._pods(component))):
                return
            await asyncio.sleep(_POLL_SECONDS)

    async def _hand_over(self, replicas: int | None) -> None:
        """Hand over the number of replicas; without an owner it would become 1.

        https://kubernetes.io/docs/reference/using-api/server-side-apply/#transferring-ownership
        """
        deployment = await self._deployment()
        if deployment and rollouts.owns_replicas(deployment, MANAGER):
            if replicas is None:
                replicas = deployment["spec"]["replicas"]
            manifest = {
                **{key: deployment[key] for key in ("apiVersion", "kind")},
                "metadata": {"name": self._name, "namespace": self._environment.namespace},
                "spec": {"replicas": replicas},
            }
            await in_thread(self._cluster.apply, Kind.DEPLOYMENT, manifest, _HANDOVER)


def _with_its_replicas(manifest: Manifest, replicas: int | None) -> Manifest:
    """Put the present number of replicas into a manifest, unless it leaves that to others."""
    if replicas is None or "replicas" not in manifest["spec"]:
        return manifest
    return {**manifest, "spec": {**manifest["spec"], "replicas": replicas}}


def _applied(thing: Manifest) -> Manifest | None:
    """Return the manifest that an object was made from, None if it is not ours."""
    record = thing["metadata"].get("annotations", {}).get(APPLIED)
    return json.loads(record) if record else None


def _rollout_error(what: str) -> TerminalError:
    return TerminalError(
        what,
        state=UNCHANGED,
        next_step="`kubectl describe` the named object, fix it, and run the flow again",
    )
