"""Target `kubernetes`: a Deployment in a cluster, replaced pod by pod."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import anyio

from tasks.core.errors import TerminalError
from tasks.core.threads import in_thread
from tasks.images.image import LABEL
from tasks.images.reference import parse_reference
from tasks.platforms.base.cloud_target import CloudTarget
from tasks.platforms.base.image_target import StagedImage
from tasks.platforms.base.proof import Candidate, prove, soak, version
from tasks.platforms.base.target import Live, Released
from tasks.platforms.kubernetes import manifests, rollouts
from tasks.platforms.kubernetes.access import Access
from tasks.platforms.kubernetes.cluster import Cluster, Kind, connect
from tasks.platforms.kubernetes.settings import KubernetesEnvironment
from tasks.platforms.kubernetes.workload import KINDS, Before, Workload

_VERBS = ("get", "list", "create", "patch", "delete")
_NAMESPACE_VERBS = ("get", "create", "patch")  # where the namespace may have to be created


class KubernetesTarget(CloudTarget[KubernetesEnvironment, Released[StagedImage]]):
    """One environment in a namespace of a cluster."""

    def __init__(self, environment: KubernetesEnvironment) -> None:
        super().__init__(environment)
        self._reached: Cluster | None = None
        self._before: Before | None = None

    @property
    def url(self) -> str:
        """The public URL of the live model."""
        return self._environment.url

    async def status(self) -> Live | None:
        """Return the release that is live, None if there is none."""
        workload = await self._workload()
        serving = await workload.serving()
        if serving is None:
            return None
        notes = serving["spec"]["template"]["metadata"]["annotations"]
        labels = {key.removeprefix(f"{LABEL}/"): value for key, value in notes.items()}
        answer = await version(self.url) or {}
        answers = all(answer.get(key) == labels[key] for key in ("release", "md5"))
        return Live(
            release=labels["release"],
            model=labels["model"],
            commit=labels["commit"],
            md5=labels["md5"],
            serving=labels["serving"],
            version=labels["version"] or None,
            healthy=answers and await workload.runs_only(labels["release"]),
        )

    async def check(self) -> list[str]:
        """Prove that the cluster can be reached, and that it lets us do what a deploy does."""
        cluster = await self._cluster()
        name = await in_thread(cluster.version)
        where = self._environment.namespace
        kinds = (*KINDS, Kind.REPLICA_SET, Kind.POD)
        needed: dict[Kind, Sequence[str]] = dict.fromkeys(kinds, _VERBS)
        if self._environment.secrets:
            needed[Kind.SECRET] = _VERBS
        if self._environment.create_namespace:
            needed[Kind.NAMESPACE] = _NAMESPACE_VERBS
        for kind, verbs in needed.items():
            for verb in verbs:
                if not await in_thread(cluster.may, verb, kind):
                    raise TerminalError(
                        f"the kubeconfig's user may not {verb} {kind.value} in namespace {where}",
                        state="nothing was changed",
                        next_step="bind the role in docs/targets/kubernetes.md to the"
                        " kubeconfig's user",
                    )
        if not (self._environment.create_namespace or await in_thread(cluster.namespace_exists)):
            raise cluster.namespace_missing()
        return [
            f"the cluster is Kubernetes {name}",
            f"the kubeconfig's user has the rights that a deploy needs in namespace {where}",
            await self._try_registry(),
            *await self._variables.check(),
        ]

    async def release(self, staged: StagedImage, version: str) -> Released[StagedImage]:
        """Apply the manifests: new pods start beside the old ones, which serve."""
        workload = await self._workload()
        if self._before is None:  # else it is tried again
            await workload.recover()
            self._before = await workload.read_before()
        ours, policy = self._environment, await in_thread((await self._cluster()).policy)
        description = await self._describe(staged, version)
        await workload.make_secret(manifests.secret(ours, description))
        await workload.make(
            {
                Kind.SERVICE: manifests.service(ours),
                Kind.DISRUPTION_BUDGET: manifests.disruption_budget(ours, policy),
                Kind.DEPLOYMENT: manifests.deployment(ours, description),
                Kind.AUTOSCALER: manifests.autoscaler(ours),
                Kind.INGRESS: manifests.ingress(ours),
            }
        )
        return Released(staged, version)

    async def verify(self, released: Released[StagedImage]) -> None:
        """Wait until all pods are new ones: each gets traffic after it has proven itself."""
        await (await self._workload()).wait_for_rollout(released.staged.release, anew=True)

    async def settle(self, released: Released[StagedImage]) -> None:
        """Prove the new version at the public URL for the soak time."""
        workload, release = await self._workload(), released.staged.release
        candidate = Candidate(
            self.url,
            released.staged.package,
            release,
            crashed=lambda: workload.crashed(release),
            last_lines=lambda: workload.last_lines(release),
        )
        await prove(candidate, self._environment.ready_seconds)
        await soak(candidate, self._environment.soak_seconds)

    async def tidy(self) -> None:
        """Take back a rollout that a killed run has left half-way, drop what is not kept."""
        workload = await self._workload()
        await workload.delete_preflight_pods()
        await workload.recover()
        serving, sets = await workload.serving(), await workload.replica_sets()
        others = [
            replica_set
            for replica_set in sets
            if serving is None or not rollouts.same(replica_set, serving)
        ]
        await workload.drop(others[self._environment.keep - 1 :])
        await self._drop_secrets(workload)
        await self._retire()

    async def rollback(self, staged: StagedImage) -> None:
        """Make all objects what they were, and leave nothing of the new release."""
        workload = await self._workload()
        await workload.delete_preflight_pods()
        if self._before is not None:
            await workload.restore(self._before)
            if before := self._before.manifests[Kind.DEPLOYMENT]:
                await workload.wait_for_rollout(rollouts.release_of(before), anew=False)
            sets = await workload.replica_sets()
            await workload.drop(s for s in sets if rollouts.release_of(s) == staged.release)
            await workload.wait_until_gone(staged.release)
        await self._drop_secrets(workload)
        await self._retire()

    async def remove(self) -> None:
        """Take the environment down; the namespace stays, whoever made it."""
        workload = await self._workload()
        await workload.make(dict.fromkeys(KINDS))
        await workload.delete_preflight_pods()
        await workload.drop(await workload.replica_sets())
        await workload.wait_until_gone()
        await workload.drop_secrets(())
        await self._retire()

    async def _prove_on_platform(self, staged: StagedImage) -> None:
        workload = await self._workload()
        if self._environment.create_namespace:
            await workload.make_namespace()
        description = await self._describe(staged, "")
        await workload.make_secret(manifests.secret(self._environment, description))
        try:
            await workload.run_preflight_pod(
                manifests.preflight_pod(self._environment, description)
            )
        except BaseException:
            with anyio.CancelScope(shield=True):
                await self._drop_secrets(workload)
            raise

    async def _images_in_use(self) -> Collection[str]:
        sets = await (await self._workload()).replica_sets()
        images = [
            replica_set["spec"]["template"]["spec"]["containers"][0]["image"]
            for replica_set in sets
        ]
        return {parse_reference(image).version for image in images}

    async def _drop_secrets(self, workload: Workload) -> None:
        """Delete the Secrets of releases that no ReplicaSet is kept of."""
        sets = await workload.replica_sets()
        await workload.drop_secrets({rollouts.release_of(replica_set) for replica_set in sets})

    async def _describe(self, staged: StagedImage, version: str) -> manifests.Released:
        variables = await self._variables.read()
        return manifests.Released(
            staged.release,
            version,
            staged.package,
            str(staged.image.reference),
            {**variables.plain, **self._release_variables(staged, version)},
            variables.reveal_secret(),
        )

    async def _workload(self) -> Workload:
        return Workload(await self._cluster(), self._environment)

    async def _cluster(self) -> Cluster:
        if self._reached is None:
            access = Access(self._environment.kubeconfig_block, self._environment.context)
            kubeconfig = await access.read()
            self._reached = await in_thread(
                connect, access, kubeconfig, self._environment.namespace
            )
        return self._reached
