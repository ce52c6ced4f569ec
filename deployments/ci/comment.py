"""The report of a merge or pull request, as its publisher reads it: it is not trusted."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

MARKER = "<!-- slipway: report on the model -->"
REPORT = "report.md"
_LONGEST = 65_000  # GitHub refuses a comment of more than 65,536 characters
_PNG = b"\x89PNG\r\n\x1a\n"
_LARGEST = 2_000_000
_MOST = 20
_PICTURE = re.compile(r"!\[([^]]*)\]\(([\w.-]+\.png)\)")


def read_pictures(folder: Path) -> dict[str, bytes]:
    """Return the PNGs in a folder by file name, without those too large or too many.

    The folder comes from the code of a pull request and is not trusted.
    """
    pictures = {}
    for path in sorted(folder.glob("*.png"))[:_MOST]:
        if path.is_file() and not path.is_symlink() and path.stat().st_size <= _LARGEST:
            content = path.read_bytes()
            if content.startswith(_PNG):
                pictures[path.name] = content
    return pictures


def comment_text(report: str, pictures: Mapping[str, str]) -> str:
    """Return the text of the comment.

    Args:
        report: The report, in which pictures are links to files beside it.
        pictures: URLs of the pictures by file name. One that is missing is named and not shown.
    """

    def link(match: re.Match[str]) -> str:
        url = pictures.get(match[2])
        return f"![{match[1]}]({url})" if url else f"(no picture of {match[1]})"

    text = f"{MARKER}\n{_PICTURE.sub(link, report)}"
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST].rpartition(chr(10))[0]}\n\n…"
