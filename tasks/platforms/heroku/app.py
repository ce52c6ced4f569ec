"""A Heroku app: its releases, its web dynos and what scales them, through the Platform API."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import httpx
from pydantic import SecretStr

from tasks.core.errors import ConfigurationError, SlipwayError, TerminalError, TransientError
from tasks.core.tls import ssl_context
from tasks.platforms.base.libraries import library_error
from tasks.platforms.base.no_answer import UNCHANGED
from tasks.platforms.base.prediction_log import last_lines_without_records
from tasks.platforms.base.rest import RefusedError, RestAPI, load_token
from tasks.platforms.heroku.releases import AppState, Release, lineage, newest_of, short
from tasks.platforms.heroku.settings import HerokuEnvironment

POLL_SECONDS = 2.0  # 4,500 requests an hour are allowed
_LOG_SECONDS = 30.0
_LOG_LINES = 30
_ACCEPT = "application/vnd.heroku+json; version=3"
# The variant that knows of images; others neither take nor tell them.
_IMAGES = {"Accept": f"{_ACCEPT}.docker-releases"}
_CONFLICT = 409


class App:
    """One app.

    Args:
        environment: Settings with its name and its owner.
    """

    def __init__(self, environment: HerokuEnvironment) -> None:
        self._environment = environment
        self._name = environment.app
        self._path = f"/apps/{environment.app}"
        self._token: SecretStr | None = None
        self._has_set_variables = False
        self.url = f"https://{environment.app}.herokuapp.com"

    async def token(self) -> SecretStr:
        """Return the token for the API and the registry."""
        self._token = self._token or await load_token(self._environment.token_block)
        return self._token

    async def call(self, method: str, path: str, **options: Any) -> Any:
        """Call the Platform API; see `RestAPI.call`.

        Raises:
            TransientError: As there, or something else is being changed.
            TerminalError: As there.
        """
        api = RestAPI(
            platform="Heroku",
            url=self._environment.api,
            token=await self.token(),
            block=self._environment.token_block,
            headers={"Accept": _ACCEPT},
        )
        try:
            return await api.call(method, path, **options)
        except RefusedError as error:
            if error.code == _CONFLICT:
                raise TransientError(
                    error.what, state=error.state, next_step="run the flow again, later"
                ) from error
            raise

    async def exists(self) -> bool:
        """Return whether the app exists; from then on its URL is known."""
        app = await self.call("GET", self._path, missing_ok=True)
        if app is None:
            return False
        self.url = (app["web_url"] or self.url).rstrip("/")
        if (stack := app["stack"]["name"]) != "container":
            raise ConfigurationError(
                f"app {self._name} has the stack {stack}, which runs no images",
                state=UNCHANGED,
                next_step=f"`heroku stack:set container --app {self._name}`, or name another app",
            )
        return True

    async def create(self) -> None:
        """Create the app, unless it is there."""
        if await self.exists():
            return
        body = {"name": self._name, "region": self._environment.region, "stack": "container"}
        if team := self._environment.team:
            await self.call("POST", "/teams/apps", json={**body, "team": team})
        else:
            await self.call("POST", "/apps", json=body)
        await self.exists()

    async def state(self) -> AppState | None:
        """Return the state of the app; None if it runs no image, or does not exist."""
        formation = await self.call(
            "GET", f"{self._path}/formation", headers=_IMAGES, missing_ok=True
        )
        web = next((process for process in formation or () if process["type"] == "web"), None)
        if web is None or not web.get("docker_image"):
            return None
        releases = await self._releases()
        return AppState(
            next(process for process in releases if process.status not in {"failed", "pending"}),
            lineage(releases),
            web["quantity"],
            (web.get("dyno_size") or {}).get("name") or web.get("size", ""),
            None if self._environment.preboot is None else await self._preboot(),
        )

    async def state_before(self, state: AppState, image: str) -> AppState | None:
        """Return the state of the app with an earlier image.

        Args:
            state: Its present state; number and size of dynos are assumed unchanged.
            image: First digits of the earlier image.

        Returns:
            None if it has not run that image, or has gone back from it.
        """
        if image not in state.images:
            return None
        release = newest_of(image, await self._releases())
        images = state.images[state.images.index(image) :]
        return replace(state, release=release, images=images) if release else None

    async def set_variables(self, variables: Mapping[str, str]) -> None:
        """Set config vars, which starts the dynos again, unless they have these values."""
        if not variables:
            return
        path = f"{self._path}/config-vars"
        there = await self.call("GET", path)
        changed = {name: value for name, value in variables.items() if there.get(name) != value}
        if changed:
            self._has_set_variables = True
            await self.call("PATCH", path, json=changed)
            await self.wait_for_releases()

    async def run(self, image: str, before: AppState | None) -> None:
        """Release an image, and wait for the release phase; one that it runs already stays.

        Args:
            before: The state before.

        Raises:
            TerminalError: The release phase failed.
        """
        size, preboot = self._environment.size, self._environment.preboot
        stays = before is not None and size.lower() in {"", before.size.lower()}
        if stays or not preboot:
            await self._set_preboot(preboot)
        quantity = self._environment.quantity or (None if before else 1)
        await self._update({"docker_image": image}, quantity, size)
        for release in await self.wait_for_releases():
            if release.image == short(image):
                if release.status == "failed":
                    raise TerminalError(
                        f"the release phase of v{release.version} of app {self._name} failed",
                        state=UNCHANGED,
                        next_step=f"`heroku releases:output v{release.version} --app {self._name}`",
                    )
                await self._set_preboot(preboot)  # which dynos of another size may not have had
                return
        raise TerminalError(
            f"app {self._name} has no release of image {short(image)}, which it was given",
            state=UNCHANGED,
            next_step=f"look at `heroku releases --app {self._name}`, then run the flow again",
        )

    async def go_back(self, before: AppState) -> bool:
        """Restore an earlier state unless it is the present one; wait for the release phase.

        Args:
            before: The state to restore.

        Returns:
            Whether there has been anything to go back from.
        """
        await self.wait_for_releases()  # a pending release may still become live
        now = await self.state()
        if (now and now.size == before.size) or not before.preboot:
            await self._set_preboot(before.preboot)
        if now is None or now.image != before.image or self._has_set_variables:
            await self.call(
                "POST", f"{self._path}/releases", json={"release": before.release.identifier}
            )
            await self.wait_for_releases()
        if now and (now.quantity, now.size) != (before.quantity, before.size):
            await self._update({}, before.quantity, before.size)
        await self._set_preboot(before.preboot)  # which dynos of another size may not have had
        return now is None or now.release != before.release

    async def stop(self) -> None:
        """Run nothing any more; what the app has beside its image stays."""
        if not await self.exists():
            return
        await self.call(
            "PATCH",
            f"{self._path}/formation/web",
            json={"docker_image": None},
            headers=_IMAGES,
            missing_ok=True,
        )
        await self.wait_for_releases()

    async def wait_for_releases(self) -> list[Release]:
        """Return its releases, newest first, once none of them waits for its release phase."""
        while True:
            releases = await self._releases()
            if releases[0].status != "pending":
                return releases
            await asyncio.sleep(POLL_SECONDS)

    async def is_up(self, state: AppState) -> bool:
        """Return whether all its web dynos run a release.

        Args:
            state: The app's state with that release.

        Returns:
            Whether as many run it, or a later one, as there should be.

        Raises:
            TerminalError: One has crashed.
        """
        states = [
            dyno["state"]
            for dyno in await self.call("GET", f"{self._path}/dynos")
            if dyno["type"] == "web" and dyno["release"]["version"] >= state.release.version
        ]
        if "crashed" in states:
            log = await self.last_lines()
            raise library_error(log, self._environment.base) or TerminalError(
                f"a web dyno of app {self._name} has crashed:\n{log}",
                state="Heroku has the release; without preboot, no other serves",
                next_step="fix the model or the serving code, commit, and deploy that commit",
            )
        # Eco dynos sleep; a request wakes them.
        return len(states) >= state.quantity and set(states) <= {"up", "idle"}

    async def last_lines(self) -> str:
        """Return the last lines of its web dynos' log, empty if Heroku gives none."""
        body = {"source": "app", "lines": 10 * _LOG_LINES, "tail": False}
        try:
            session = await self.call("POST", f"{self._path}/log-sessions", json=body)
            async with httpx.AsyncClient(
                timeout=_LOG_SECONDS, trust_env=False, verify=ssl_context()
            ) as client:
                answer = await client.get(session["logplex_url"])  # which has its own key
        except (SlipwayError, httpx.HTTPError):  # the log only adds to a known error
            return ""
        return last_lines_without_records(answer.text, _LOG_LINES) if answer.is_success else ""

    async def _releases(self) -> list[Release]:
        newest = {"Range": "version ..; order=desc, max=200"}
        answer: list[Mapping[str, Any]] = await self.call(
            "GET", f"{self._path}/releases", headers=newest
        )
        return [
            Release(
                release["id"], release["version"], release["status"], release["description"] or ""
            )
            for release in answer
        ]

    async def _preboot(self) -> bool:
        return bool((await self.call("GET", f"{self._path}/features/preboot"))["enabled"])

    async def _set_preboot(self, enabled: bool | None) -> None:
        if enabled is not None and await self._preboot() != enabled:
            await self.call("PATCH", f"{self._path}/features/preboot", json={"enabled": enabled})

    async def _update(self, web: Mapping[str, Any], quantity: int | None, size: str) -> None:
        update = {"type": "web", **web}
        if quantity is not None:
            update["quantity"] = quantity
        if size:
            update["dyno_size"] = {"name": size}
        await self.call(
            "PATCH", f"{self._path}/formation", json={"updates": [update]}, headers=_IMAGES
        )
