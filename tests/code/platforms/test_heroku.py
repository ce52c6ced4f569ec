"""The properties of Heroku: releases and their images, scale, stacks, the release phase."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, cast

import pytest
from pydantic import ValidationError

from tasks.core.errors import TerminalError
from tasks.images.build import Image
from tasks.images.reference import parse_reference
from tasks.images.registry import Manifest
from tasks.images.retention import tags_by_image
from tasks.images.variant import image_id, push_variant
from tasks.package.package import Package
from tasks.platforms.base.image_target import StagedImage
from tasks.platforms.heroku.app import App
from tasks.platforms.heroku.releases import AppState, Release, lineage, newest_of, short
from tasks.platforms.heroku.settings import HerokuEnvironment
from tasks.platforms.heroku.target import HerokuRelease, HerokuTarget
from tests.code.platforms.bad_models import when_released
from tests.code.platforms.heroku_place import APP, HerokuPlace, known_token
from tests.containers import run_registry
from tests.stand_ins.descriptions import absent
from tests.stand_ins.faults import RestFaults
from tests.stand_ins.front import Front
from tests.stand_ins.heroku import Heroku, error_body
from tests.stand_ins.heroku_schema import NAME
from tests.stand_ins.serve import serving

_IMAGES = {name: digit * 12 for name, digit in zip("abc", "123", strict=True)}

_WITHOUT_DYNOS = AppState(Release("", 0, "succeeded", ""), (), 0, "", None)


def _history(text: str, **status: str) -> list[Release]:
    """Make releases in their order, as `a b <1`: image a, image b, back to v1."""
    words = {name: f"Deployed web ({image})" for name, image in _IMAGES.items()}
    words |= {"-": "Set LEVEL config vars", "new": "Initial release"}
    words |= {"a+b": f"Deployed web ({_IMAGES['a']}), worker ({_IMAGES['b']})"}
    made = [
        Release(
            f"id-{number}",
            number,
            status.get(f"v{number}", "succeeded"),
            f"Rollback to v{word[1:]}" if word.startswith("<") else words[word],
        )
        for number, word in enumerate(text.split(), 1)
    ]
    return made[::-1]  # newest first, as Heroku lists them


@pytest.mark.parametrize(
    ("releases", "images"),
    [
        (_history("new"), ""),
        (_history("new a"), "a"),
        (_history("new a b"), "ba"),
        (_history("a - -"), "a"),
        (_history("a+b"), "a"),
        (_history("a b a"), "ab"),
        (_history("a b <1"), "a"),
        (_history("a b <1 c"), "ca"),
        (_history("a b - c <3 -"), "ba"),
        (_history("a b <1 c <3"), "a"),
        (_history("a b", v2="failed"), "a"),
        (_history("a b", v2="pending"), "a"),
        (_history("a b <1", v3="failed"), "ba"),
    ],
)
def test_releases_give_images_of_an_app(releases: list[Release], images: str) -> None:
    assert lineage(releases) == tuple(_IMAGES[image] for image in images)


@pytest.mark.parametrize(
    ("releases", "image", "version"),
    [
        (_history("a b"), "a", 1),
        (_history("a - b"), "a", 2),
        (_history("a b <1 c -"), "a", 3),
        (_history("a - b", v2="expired"), "a", 1),
        (_history("a b"), "c", None),
    ],
)
def test_newest_release_of_an_image_is_chosen(
    releases: list[Release], image: str, version: int | None
) -> None:
    newest = newest_of(_IMAGES[image], releases)
    assert (newest.version if newest else None) == version


@pytest.fixture
async def heroku(
    tmp_path: Path, front: Front, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[HerokuPlace]:
    """Heroku with an app that has no dynos: nothing runs, all else is as ever."""
    monkeypatch.setattr("tasks.platforms.heroku.app.load_token", known_token)
    monkeypatch.setattr("tasks.platforms.heroku.app.POLL_SECONDS", 0.1)
    with run_registry(tmp_path) as host:
        stand_in = Heroku(cast("Any", None), front, host, "HRKU-the-right-one")
        faults = RestFaults(stand_in.app, error=error_body)
        with serving(faults) as api:
            environment = HerokuEnvironment(
                name="heroku", target="heroku", app=APP, api=api,
                repository=f"{host}/{APP}/web", keep=1,
            )  # fmt: skip
            await App(environment).create()
            stand_in.apps[APP].quantity = 0
            yield HerokuPlace(environment, stand_in, faults)
        stand_in.close()


def _push(place: HerokuPlace, release: str) -> Manifest:
    """Push an image of a release without anything in it."""
    config = json.dumps({"config": {}}).encode()
    kind = "application/vnd.docker.distribution.manifest.v2+json"
    description = {
        "mediaType": "application/vnd.docker.container.image.v1+json",
        "size": len(config),
        "digest": place.repository.write(config),
    }
    image = Manifest.of(
        {"schemaVersion": 2, "mediaType": kind, "config": description, "layers": []}
    )
    return push_variant(place.repository, "heroku", image, {"SLIPWAY_RELEASE": release}, ["serve"])


async def test_rollback_skips_release_of_killed_deploy(heroku: HerokuPlace, paper: Package) -> None:
    app = App(heroku.environment)
    proven = _push(heroku, "proven")
    await app.run(image_id(proven), _WITHOUT_DYNOS)
    await HerokuTarget(heroku.environment).tidy()
    await app.run(image_id(_push(heroku, "killed")), _WITHOUT_DYNOS)

    target = HerokuTarget(heroku.environment)
    new = _push(heroku, "new")  # as `release` does
    image = Image(parse_reference(heroku.environment.repository), {"linux/amd64": new})
    staged = StagedImage(paper, "20260101T000000-abcdef1-12ab", image)
    with pytest.raises(TerminalError, match="has 0 web dynos"):
        await target.settle(HerokuRelease(staged, "v1", new))
    assert heroku.app.current.image == image_id(new)
    await target.rollback(staged)
    assert heroku.app.current.image == image_id(proven)
    assert [image_id(image) for image in tags_by_image(heroku.repository)] == [image_id(proven)]

    await target.remove()
    assert heroku.repository.tags() == []


@pytest.mark.parametrize(
    ("was", "becomes"),
    [(("standard-1x", True), ("Basic", False)), (("Basic", False), ("standard-1x", True))],
)
async def test_rollback_restores_size_and_preboot(
    heroku: HerokuPlace, was: tuple[str, bool], becomes: tuple[str, bool]
) -> None:
    size, preboot = becomes
    environment = heroku.environment.model_copy(update={"size": size, "preboot": preboot})
    app = App(environment)
    await app.run(image_id(_push(heroku, "old")), _WITHOUT_DYNOS)
    heroku.app.size, heroku.app.preboot = was
    before = await app.state()
    assert before
    await app.run(image_id(_push(heroku, "new")), before)
    assert (heroku.app.size, heroku.app.preboot) == becomes
    assert await app.go_back(before)
    assert (heroku.app.size, heroku.app.preboot) == was


async def test_rollback_restores_zero_dynos(heroku: HerokuPlace) -> None:
    app = App(heroku.environment)
    await app.run(image_id(_push(heroku, "old")), _WITHOUT_DYNOS)
    before = await app.state()
    assert before
    heroku.heroku.wait_until_idle()  # else it would start the dynos, of which there are none here
    heroku.app.quantity = 2  # as `quantity = 2` of the new release sets it
    await app.go_back(before)
    assert heroku.app.quantity == 0


async def test_missing_log_is_empty(heroku: HerokuPlace) -> None:
    heroku.faults.always("500", f"POST /apps/{APP}/log-sessions")
    assert await App(heroku.environment).last_lines() == ""


def test_image_is_named_by_its_first_digits() -> None:
    assert short(f"sha256:{'1' * 12}{'0' * 52}") == _IMAGES["a"]


def test_repository_follows_from_app() -> None:
    environment = HerokuEnvironment(name="heroku", target="heroku", app="our-wine")
    assert environment.repository == "registry.heroku.com/our-wine/web"


@pytest.mark.parametrize(
    "settings",
    [{"app": "Our-Wine"}, {"app": "w"}, {"quantity": 0}, {"platforms": ["linux/arm64"]}],
)
def test_invalid_settings_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        HerokuEnvironment.model_validate(
            {"name": "heroku", "target": "heroku", "app": "our-wine", **settings}
        )


# With dynos


async def test_rollback_restores_scale_and_image(
    heroku_place: HerokuPlace, models: list[Package], make_package: Callable[..., Package]
) -> None:
    live = await heroku_place.ensure_live(models)
    fault = when_released("raise SystemExit('no room here')")
    before, bad = await heroku_place.snapshot(), make_package("b", **{"serving/__main__.py": fault})
    with pytest.raises(TerminalError, match="no room here"):
        await heroku_place.deploy(bad, quantity=2, size="performance-m", preboot=False)
    assert await heroku_place.snapshot() == before
    await heroku_place.assert_live(live)


async def test_failed_release_phase_keeps_live_release(
    heroku_place: HerokuPlace, models: list[Package]
) -> None:
    live = await heroku_place.ensure_live(models)
    (new, *_) = [model for model in models if model is not live]
    before, releases = await heroku_place.snapshot(), len(heroku_place.app.releases)
    heroku_place.app.release_phase_fails = True
    try:
        with pytest.raises(TerminalError, match="release phase of v") as refusal:
            await heroku_place.deploy(new, quantity=2)
    finally:
        heroku_place.app.release_phase_fails = False
    assert "heroku releases:output" in refusal.value.next_step
    assert await heroku_place.snapshot() == before
    # Nothing was rolled back that had never been live.
    assert len(heroku_place.app.releases) == releases + 1


async def test_failed_first_release_runs_nothing(
    heroku_place: HerokuPlace, make_package: Callable[..., Package]
) -> None:
    await heroku_place.target().remove()
    before = await heroku_place.snapshot()
    fault = when_released("raise SystemExit('no room here')")
    with pytest.raises(TerminalError, match="no room here"):
        await heroku_place.deploy(make_package("c", **{"serving/__main__.py": fault}))
    assert await heroku_place.snapshot() == before
    assert await heroku_place.target().status() is None


async def test_new_app_has_region_and_team_of_the_file(heroku_place: HerokuPlace) -> None:
    settings = {"app": "wine-of-a-team", "region": "eu", "team": "models"}
    (_, finding) = await heroku_place.target(**settings).check()
    assert finding == "the first deploy creates app wine-of-a-team: eu, team models"
    with pytest.raises(TerminalError, match="Couldn't find that team"):
        await heroku_place.target(**{**settings, "team": "nobody"}).check()
    environment = heroku_place.environment.model_copy(update=settings)
    for _ in range(2):
        await App(environment).create()
    made = heroku_place.heroku.apps.pop("wine-of-a-team")
    assert (made.owner, made.region, made.stack) == ("models", "eu", "container")


async def test_buildpack_app_is_left_alone(
    heroku_place: HerokuPlace, models: list[Package]
) -> None:
    await heroku_place.ensure_live(models)
    assert "runs v" in " ".join(await heroku_place.target().check())
    heroku_place.app.stack = "heroku-24"
    try:
        with pytest.raises(TerminalError, match="has the stack heroku-24") as refusal:
            await heroku_place.deploy(models[0])
    finally:
        heroku_place.app.stack = "container"
    assert "heroku stack:set container" in refusal.value.next_step


async def test_requests_match_the_description_of_heroku(
    heroku_place: HerokuPlace, models: list[Package]
) -> None:
    if heroku_place.heroku.schema is None:
        pytest.skip(absent(NAME))
    await heroku_place.ensure_live(models)
    assert heroku_place.heroku.complaints == []
