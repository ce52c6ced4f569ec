"""Target `sagemaker`: an endpoint of Amazon SageMaker, which moves its traffic itself.

A release is a model and an endpoint configuration of the same name. Nothing serves from them until
the endpoint is updated: SageMaker then starts servers beside the old ones, waits for their `/ping`,
which answers after the golden predictions, moves the traffic, and goes back if that fails.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from tasks.core.errors import TerminalError
from tasks.images.reference import parse_reference
from tasks.images.registry import Login, Repository
from tasks.platforms.base.cloud_target import CloudTarget
from tasks.platforms.base.image_target import StagedImage
from tasks.platforms.base.proof import Candidate, soak
from tasks.platforms.base.target import Live, Released
from tasks.platforms.sagemaker import ecr, requests
from tasks.platforms.sagemaker.aws import Aws, open_aws
from tasks.platforms.sagemaker.endpoint import FAILED, IN_SERVICE, Endpoint, State
from tasks.platforms.sagemaker.releases import Releases, foreign
from tasks.platforms.sagemaker.settings import SageMakerEnvironment


class SageMakerTarget(CloudTarget[SageMakerEnvironment, Released[StagedImage]]):
    """One endpoint."""

    def __init__(self, environment: SageMakerEnvironment) -> None:
        super().__init__(environment)
        self._where = parse_reference(environment.repository)
        self._connection: Aws | None = None
        self._reached: Endpoint | None = None
        self._previous = ""
        self._moved = False
        self._made_alarm = False

    @property
    def url(self) -> str:
        """The URL that invokes the live model, by requests signed with AWS credentials."""
        host = f"runtime.sagemaker.{self._environment.region}.amazonaws.com"
        usual = f"https://{host}/endpoints/{self._environment.endpoint_name}/invocations"
        return self._environment.url or usual

    @property
    def page(self) -> None:
        """None: an endpoint serves no page."""

    async def check(self) -> Sequence[str]:
        """Prove, changing nothing, that a release could be made."""
        aws, environment = await self._aws(), self._environment
        caller = await aws.call("sts", "get_caller_identity") or {}
        findings = [f"AWS accepts the credentials of {caller.get('Arn')}, in {environment.region}"]
        state = await self._state()
        status = f"is {state.status}" if state else "does not exist yet: a deploy creates it"
        findings.append(f"endpoint {environment.endpoint_name} {status}")
        role = environment.role.rpartition("/")[2]
        if await aws.call("iam", "get_role", ignore=["AccessDenied"], RoleName=role):
            findings.append(f"role {role} exists")
        if ecr.is_ecr(self._where) and not await ecr.has_repository(aws, self._where):
            await ecr.log_in(aws)
            findings.append(
                f"repository {self._where.name} does not exist yet: a deploy creates it"
            )
        else:
            findings.append(await self._try_registry())
        alarms = await (await self._releases()).check_alarms()
        return [*findings, *alarms, *await self._variables.check()]

    async def status(self) -> Live | None:
        """Return the release that is live, None if there is none."""
        state = await self._state()
        if state is None or state.status in {FAILED, "Creating"}:
            return None
        labels = await (await self._releases()).labels(state.configuration)
        endpoint = await self._endpoint()
        answer = await endpoint.version() if state.status == IN_SERVICE else None
        return Live(
            release=labels["release"],
            model=labels["model"],
            commit=labels["commit"],
            md5=(answer or labels).get("md5", ""),
            serving=labels["serving"],
            version=labels.get("version"),
            healthy=answer is not None and answer.get("release") == labels["release"],
        )

    async def release(self, staged: StagedImage, version: str) -> Released[StagedImage]:
        """Describe the new servers to SageMaker, which does not start them yet."""
        endpoint, releases = await self._endpoint(), await self._releases()
        await endpoint.wait_until_idle()  # a killed run may have begun an update
        state = await self._state()
        if state and state.status == FAILED:
            await endpoint.delete()
            state = None
        self._previous = state.configuration if state else ""
        image, variables = staged.image.reference, (await self._variables.read()).reveal()
        variables |= self._release_variables(staged, version)
        labels = requests.release_labels(
            self._environment, staged.release, version, staged.package, image.version
        )
        await releases.create(self._name(staged), str(image), variables, labels)
        self._made_alarm = self._made_alarm or await releases.lacks_alarm()
        await releases.set_alarm()
        return Released(staged, version)

    async def verify(self, released: Released[StagedImage]) -> None:
        """Prove that SageMaker's model has the image that was pushed."""
        name, expected = self._name(released.staged), released.staged.image.reference
        actual = await (await self._releases()).image(name)
        if actual != str(expected):
            raise TerminalError(
                f"SageMaker's model {name} has image {actual} instead of {expected}",
                state="what was live before goes on serving",
                next_step="find out who else makes models of that name, then run the flow again",
            )

    async def settle(self, released: Released[StagedImage]) -> None:
        """Move the traffic, and prove the endpoint for the soak time; the old servers end."""
        endpoint = await self._endpoint()
        self._moved = True
        await endpoint.move(self._name(released.staged), requests.update(self._environment))
        candidate = Candidate(
            self.url,
            released.staged.package,
            released.staged.release,
            crashed=lambda: False,
            last_lines=lambda: f"see CloudWatch's log group {endpoint.logs}",
            server=endpoint,
        )
        await soak(candidate, self._environment.soak_seconds)

    async def rollback(self, staged: StagedImage) -> None:
        """Move the endpoint to its earlier configuration, and leave nothing of this release."""
        endpoint, releases = await self._endpoint(), await self._releases()
        state = await endpoint.wait_until_idle() if self._moved else None
        if state and state.configuration == self._name(staged):
            if self._previous:
                await endpoint.move(self._previous, {})  # at once, regardless of alarms
            else:
                await endpoint.delete()
        if self._made_alarm:
            await releases.drop_alarm()
        await releases.discard(self._name(staged))
        await self._retire()

    async def tidy(self) -> None:
        """Drop releases beyond those kept, and models without a release."""
        releases, state = await self._releases(), await self._state()
        live = {state.configuration, state.pending} if state else set()
        names = await releases.names()
        spare = [name for name in names if name not in live]
        for name in spare[: max(0, len(spare) - self._environment.keep + 1)]:
            await releases.discard(name)
        for name in await releases.models() - set(names):
            await releases.discard(name)
        await self._retire()

    async def remove(self) -> None:
        """Take the environment down; nothing of it is left but the empty repository."""
        await self._state()  # refuses a foreign endpoint
        await (await self._endpoint()).delete()
        releases = await self._releases()
        for name in {*await releases.names(), *await releases.models()}:
            await releases.discard(name)
        await releases.drop_alarm()
        await self._retire()

    def _name(self, staged: StagedImage) -> str:
        return requests.name_of(self._environment, staged.release)

    async def _state(self) -> State | None:
        state = await (await self._endpoint()).state()
        if state and not requests.is_ours(self._environment, state.configuration):
            raise foreign(self._environment, state.configuration)
        return state

    async def _prepare(self) -> None:
        requests.check_variables((await self._variables.read()).reveal())
        await self._state()  # refuses a foreign or inaccessible endpoint before the push
        if ecr.is_ecr(self._where):
            await ecr.make_repository(await self._aws(), self._where)

    async def _log_in(self) -> Login | None:
        if ecr.is_ecr(self._where):
            return await ecr.log_in(await self._aws())
        return await super()._log_in()

    async def _repository(self) -> Repository:
        if ecr.is_ecr(self._where):
            aws = await self._aws()
            return ecr.EcrRepository(self._where, await ecr.log_in(aws), aws)
        return await super()._repository()

    async def _images_in_use(self) -> Collection[str]:
        return await (await self._releases()).digests()

    async def _endpoint(self) -> Endpoint:
        if self._reached is None:  # it remembers its last order
            self._reached = Endpoint(await self._aws(), self._environment.endpoint_name)
        return self._reached

    async def _releases(self) -> Releases:
        return Releases(await self._aws(), self._environment)

    async def _aws(self) -> Aws:
        if self._connection is None:
            self._connection = await open_aws(self._environment.aws_block, self._environment.region)
        return self._connection
