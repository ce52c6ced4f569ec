"""Target `heroku`: the model's image as the web dynos of a Heroku app.

Heroku has no place beside the live one where a release could be proven, so it is proven on the
worker, and again once it has the traffic. Which image runs is read from the app's releases, what it
is from the image itself: each release has an image of its own, which names it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from tasks.core.errors import TerminalError
from tasks.core.threads import in_thread
from tasks.images.registry import Login, Manifest
from tasks.images.retention import warn_on_failure
from tasks.images.variant import image_id, push_variant
from tasks.platforms.base.cloud_target import CloudTarget
from tasks.platforms.base.image_target import StagedImage
from tasks.platforms.base.proof import Candidate, soak, version
from tasks.platforms.base.target import Live, Released
from tasks.platforms.heroku import app as heroku_app
from tasks.platforms.heroku.app import App
from tasks.platforms.heroku.images import Images
from tasks.platforms.heroku.releases import AppState
from tasks.platforms.heroku.settings import REGISTRY, HerokuEnvironment

# With preboot, traffic moves about three minutes after the dynos are up.
_SWITCH_SECONDS = 300.0
# Heroku routes to any dyno that listens, so the server listens only once it is proven.
_VARIABLES = {"SLIPWAY_LISTEN_WHEN_READY": "1"}
# It takes no image without; one word, so that no shell has anything to split.
_ARGUMENTS = ("--host=0.0.0.0",)


@dataclass(frozen=True)
class HerokuRelease(Released[StagedImage]):
    """A release whose image is in the registry.

    Attributes:
        variant: The image, which names the release.
    """

    variant: Manifest


class HerokuTarget(CloudTarget[HerokuEnvironment, HerokuRelease]):
    """One environment, which is a Heroku app."""

    def __init__(self, environment: HerokuEnvironment) -> None:
        super().__init__(environment)
        self._app = App(environment)
        self._before: AppState | None = None
        self._settling = False

    @property
    def url(self) -> str:
        """The public URL of the live model."""
        return self._environment.url or self._app.url

    async def status(self) -> Live | None:
        """Return the release that is live, None if there is none."""
        state = await self._app.state() if await self._app.exists() else None
        if state is None:
            return None
        labels = await in_thread((await self._images()).labels, state.image)
        if labels is None:  # it is not ours
            return None
        answer = await version(self.url)
        return Live(
            release=labels["release"],
            model=labels["model"],
            commit=labels["commit"],
            md5=(answer or labels).get("md5") or "",
            serving=labels["serving"],
            version=labels["version"],
            healthy=answer is not None and answer.get("release") == labels["release"],
        )

    async def release(self, staged: StagedImage, version: str) -> HerokuRelease:
        """Push the image of this release; Heroku has nowhere to start it beside the live one."""
        (image,) = staged.image.manifests.values()
        plain = (await self._variables.read()).plain
        variant = await in_thread(
            push_variant,
            await self._repository(),
            self._environment.name,
            image,
            {**plain, **self._release_variables(staged, version), **_VARIABLES},
            _ARGUMENTS,
        )
        return HerokuRelease(staged, version, variant)

    async def verify(self, released: HerokuRelease) -> None:
        """Do nothing: Heroku has no place beside the live one, where a release could be proven."""

    async def settle(self, released: HerokuRelease) -> None:
        """Release the image to the app, and prove it at the public URL."""
        release = released.staged.release
        if not self._settling:  # else this is a repetition
            self._before = await self._proven_state()
            self._settling = True
        # Not in the image, which lies in a registry. Config vars make a release of the app, so a
        # rollback to an earlier release restores its values.
        await self._app.set_variables((await self._variables.read()).reveal_secret())
        await self._app.run(image_id(released.variant), self._before)
        await self._wait_for_url(
            lambda answer: answer.get("release") == release and answer["ready"]
        )
        candidate = Candidate(
            self.url,
            released.staged.package,
            release,
            crashed=lambda: False,  # the public URL shows it
            last_lines=lambda: asyncio.run(self._app.last_lines()),
        )
        await soak(candidate, self._environment.soak_seconds)
        await self._mark()

    async def rollback(self, staged: StagedImage) -> None:
        """Restore the earlier state of the app; leave nothing of the new image."""
        if self._settling and self._before is None:
            await self._app.stop()
        elif self._settling and self._before:
            changed = await self._app.go_back(self._before)
            if changed and self._before.quantity:
                await self._wait_for_url(lambda answer: answer.get("release") != staged.release)
        await self._retire()

    async def tidy(self) -> None:
        """Drop images beyond those kept for rollback; old dynos are gone already."""
        await self._mark()
        await self._retire()

    async def remove(self) -> None:
        """Run nothing and keep no image; the app, its name, domains and add-ons stay."""
        await self._app.stop()
        await self._retire()

    async def check(self) -> Sequence[str]:
        """Prove by reading that a deploy could be made.

        Returns:
            What was found.

        Raises:
            SlipwayError: Something is missing; says what to do.
        """
        account = await self._app.call("GET", "/account")
        left = await self._app.call("GET", "/account/rate-limits")
        findings = [
            f"Heroku accepts the token of {account['email']}; {left['remaining']} calls left"
        ]
        region, team = self._environment.region, self._environment.team
        if await self._app.exists():
            state = await self._app.state()
            runs = f"v{state.release.version}" if state else "nothing yet"
            findings.append(f"app {self._environment.app} runs {runs} at {self.url}")
            findings.append(await self._try_registry())
        else:
            await self._app.call("GET", f"/regions/{region}")
            if team:
                await self._app.call("GET", f"/teams/{team}")
            owner = f"team {team}" if team else "the account"
            findings.append(
                f"the first deploy creates app {self._environment.app}: {region}, {owner}"
            )
        return [*findings, *await self._variables.check()]

    async def _prepare(self) -> None:
        await self._app.create()

    async def _retire(self) -> None:
        with warn_on_failure():
            if await self._app.exists():  # else it has no registry either
                await super()._retire()

    async def _log_in(self) -> Login | None:
        # The token is for Heroku's own registry, and for no other.
        if self._environment.registry_block or not self._pushes_to(REGISTRY):
            return await super()._log_in()
        return Login("_", await self._app.token())

    async def _images(self) -> Images:
        return Images(await self._repository(), self._environment.name)

    async def _images_in_use(self) -> Collection[str]:
        state = await self._app.state()
        if state is None:
            return set()
        images = state.images[: self._environment.keep]
        return await in_thread((await self._images()).digests, images)

    async def _mark(self) -> None:
        """Mark the present image as proven; a rollback returns to no other."""
        if state := await self._app.state():
            await in_thread((await self._images()).mark, state.image)

    async def _proven_state(self) -> AppState | None:
        """Return the app's state, or the last proven one if a killed deploy left another."""
        state, images = await self._app.state(), await self._images()
        if state is None or not await in_thread(images.has, state.image):
            return state  # no image runs, or a foreign one
        proven = await in_thread(images.proven)
        if proven in {"", state.image}:
            return state
        return await self._app.state_before(state, proven) or state

    async def _wait_for_url(self, rightly: Callable[[Mapping[str, str]], object]) -> None:
        """Wait until all dynos run the current release, and the public URL says the right thing."""
        state = await self._app.state()
        assert state, "an image was released"
        if not state.quantity:
            raise TerminalError(
                f"app {self._environment.app} has 0 web dynos: nothing can be proven",
                state="nothing serves, as before",
                next_step="set `quantity` in the environment's file, then run the flow again",
            )
        seconds = self._environment.ready_seconds + _SWITCH_SECONDS
        try:
            async with asyncio.timeout(seconds):
                while True:
                    if await self._app.is_up(state) and await self._url_reports(rightly):
                        return
                    await asyncio.sleep(heroku_app.POLL_SECONDS)
        except TimeoutError:
            raise TerminalError(
                f"{self.url} did not lead to v{state.release.version} within {seconds:g} s",
                state="Heroku has the release, which may still get traffic",
                next_step=f"look at `heroku ps --app {self._environment.app}`",
            ) from None

    async def _url_reports(self, rightly: Callable[[Mapping[str, str]], object]) -> bool:
        answer = await version(self.url)
        return answer is not None and bool(rightly(answer))
