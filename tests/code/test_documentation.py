"""Pages lead somewhere: their links, the commands that they name, and what each is for."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tasks.core.settings import CHECKOUT

_LINK = re.compile(r"\]\(([^)\s]+)\)")
_DOCS = CHECKOUT / "docs"
# What docs/template.md links to is the template's; README.md and other pages are the user's.
GUIDES = ["docs/template.md"] + [
    f"docs/{link}"
    for link in sorted(set(_LINK.findall((_DOCS / "template.md").read_text())))
    if link.endswith(".md") and "/" not in link
]
PAGES = [
    *GUIDES,
    *(f"docs/targets/{page.name}" for page in sorted((_DOCS / "targets").glob("*.md"))),
    *("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"),
]

_CODE = re.compile(r"```.*?```", re.DOTALL)
_INLINE = re.compile(r"`([^`]+)`")
_HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)
_COMMAND = re.compile(r"(?<![\w./-])(slipway|make) ([a-z][a-z-]+)")


def _is_removed(file: Path) -> bool:
    """Return whether a file is of a CI that a repository on another site has removed."""
    top = CHECKOUT / file.relative_to(CHECKOUT).parts[0]
    return top.name in {".github", ".gitlab-ci.yml"} and not top.exists()


def _anchors(page: Path) -> set[str]:
    """Return the anchors that GitHub gives to the headings of a page."""
    headings = _HEADING.findall(_CODE.sub("", page.read_text()))
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_files_and_headings(page: str) -> None:
    path = CHECKOUT / page
    broken = []
    for link in _LINK.findall(_CODE.sub("", path.read_text())):
        target, _, anchor = link.partition("#")
        if "://" in target:
            continue
        file = (path.parent / target).resolve() if target else path
        if _is_removed(file):
            continue
        if not file.exists() or (anchor and anchor not in _anchors(file)):
            broken.append(link)
    assert not broken


@pytest.mark.parametrize("page", GUIDES)
def test_page_opens_with_what_its_reader_can_do(page: str) -> None:
    paragraphs = (CHECKOUT / page).read_text().split("\n\n")
    assert paragraphs[1].startswith("After reading this page you")


@pytest.mark.parametrize("page", PAGES)
def test_commands_of_a_page_exist(page: str) -> None:
    known = {"make": _make_targets(), "slipway": _subcommands()}
    text = (CHECKOUT / page).read_text()
    code = _CODE.findall(text) + _INLINE.findall(_CODE.sub("", text))
    commands = [command for part in code for command in _COMMAND.findall(part)]
    assert not [command for command in commands if command[1] not in known[command[0]]]


def _make_targets() -> set[str]:
    makefile = (CHECKOUT / "Makefile").read_text()
    return set(re.findall(r"^([a-z][a-z-]*):", makefile, re.MULTILINE))


def _subcommands() -> set[str]:
    from typer.main import get_command

    from deployments.cli.app import app

    return set(get_command(app).commands)  # type: ignore[attr-defined]
