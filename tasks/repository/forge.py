"""The pages of the site that hosts origin: GitHub, GitLab, and sites with the same addresses."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tasks.core.settings import Settings

# https://[user:token@]host/path.git, ssh://git@host/path.git, git@host:path.git
_ORIGIN = re.compile(
    r"(?:https://(?:[^/@]*@)?|ssh://git@|git@)(?P<host>[\w.-]+\.\w+)(?P<port>:\d+(?=/))?[:/]"
    r"(?P<path>[\w./-]+?)(?:\.git)?/?"
)


@dataclass(frozen=True)
class Forge:
    """The site of a repository.

    Attributes:
        kind: `gitlab`, or `github` for GitHub and sites with the same addresses.
        address: Host of its pages, with a port if it is not the usual one.
        path: Owner or groups, and name.
    """

    kind: str
    address: str
    path: str

    def commit_page(self, commit: str) -> str:
        """Return the URL of a commit's page."""
        separator = "/-" if self.kind == "gitlab" else ""
        return f"https://{self.address}/{self.path}{separator}/commit/{commit}"


def find_forge(origin: str, kind: str = "") -> Forge | None:
    """Return the site that hosts origin, None if origin is no URL of one.

    Args:
        origin: Git URL or path; credentials in it are left out.
        kind: Its kind; empty to tell it by the host, which is GitLab's if a part of its name
            is `gitlab`.
    """
    match = _ORIGIN.fullmatch(origin)
    if match is None:
        return None
    host = match["host"]
    known = "gitlab" if "gitlab" in re.split(r"[.-]", host.lower()) else "github"
    # A port of SSH says nothing about the pages.
    port = (match["port"] or "") if origin.startswith("https://") else ""
    return Forge(kind or known, f"{host}{port}", match["path"])


def own_forge() -> Forge | None:
    """Return the site that hosts origin by this host's settings."""
    settings = Settings()
    return find_forge(settings.origin, settings.forge)
