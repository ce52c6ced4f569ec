"""What the releases of a Heroku app tell, and its settings; the rest is in the contract."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from tasks.environments.heroku import HerokuEnvironment
from tasks.platforms.heroku.releases import Release, lineage, short

_IMAGES = {name: digit * 12 for name, digit in zip("abc", "123", strict=True)}


def _history(text: str, **status: str) -> list[Release]:
    """Releases in the order in which they were made, as `a b <1`: image a, image b, back to v1."""
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
def test_releases_say_which_images_an_app_has_run(releases: list[Release], images: str) -> None:
    assert lineage(releases) == tuple(_IMAGES[each] for each in images)


def test_an_image_is_named_by_its_first_digits() -> None:
    assert short(f"sha256:{'1' * 12}{'0' * 52}") == _IMAGES["a"]


def test_the_repository_follows_from_the_app() -> None:
    environment = HerokuEnvironment(name="heroku", target="heroku", app="our-wine")
    assert environment.repository == "registry.heroku.com/our-wine/web"


@pytest.mark.parametrize(
    "settings",
    [{"app": "Our-Wine"}, {"app": "w"}, {"quantity": 0}, {"platforms": ["linux/arm64"]}],
)
def test_what_heroku_would_refuse_is_refused_before(settings: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        HerokuEnvironment.model_validate(
            {"name": "heroku", "target": "heroku", "app": "our-wine", **settings}
        )
