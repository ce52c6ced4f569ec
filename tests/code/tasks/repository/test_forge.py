"""The pages of the site that hosts origin."""

from __future__ import annotations

import pytest

from tasks.repository.forge import find_forge


@pytest.mark.parametrize(
    ("origin", "kind", "page"),
    [
        ("https://gitlab.com/team/group/wine.git", "", "https://gitlab.com/team/group/wine/-/commit/c"),
        ("https://me:secret@gitlab.example.com:8443/me/wine", "", "https://gitlab.example.com:8443/me/wine/-/commit/c"),
        ("ssh://git@gitlab.example.com:2222/me/wine.git", "", "https://gitlab.example.com/me/wine/-/commit/c"),
        ("git@my-gitlab.example.com:me/wine.git", "", "https://my-gitlab.example.com/me/wine/-/commit/c"),
        ("git@code.example.com:me/wine.git", "gitlab", "https://code.example.com/me/wine/-/commit/c"),
        ("git@code.example.com:me/wine.git", "", "https://code.example.com/me/wine/commit/c"),
        ("https://notgitlab.example.com/me/wine", "", "https://notgitlab.example.com/me/wine/commit/c"),
        ("https://gitlab.example.com/me/wine", "github", "https://gitlab.example.com/me/wine/commit/c"),
    ],
)  # fmt: skip
def test_page_of_a_commit_has_the_address_of_its_site(origin: str, kind: str, page: str) -> None:
    forge = find_forge(origin, kind)
    assert forge
    assert forge.commit_page("c") == page
