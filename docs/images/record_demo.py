"""Record `make demo` as an animated SVG of a terminal.

    make demo | .venv/bin/python docs/images/record_demo.py docs/images/demo.svg

It is text, so it stays small and sharp; pauses are shortened. A viewer that does not animate, or a
reader who prefers no motion, gets the last screen.
"""

from __future__ import annotations

import io
import re
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import TerminalTheme
from rich.text import Text

_COLUMNS = 140  # of a demo that writes into a pipe
_ROWS = 36
_LINE_HEIGHT = 24.4  # of rich's SVG, whose letters are 20 high
_MARGIN = 16
_LONGEST_PAUSE = 0.7  # seconds; a reader follows, and nobody watches a minute of training
_SHORTEST_PAUSE = 0.06
_LAST_SCREEN = 8.0  # seconds before it starts again

_THEME = TerminalTheme(
    (16, 24, 32),
    (214, 222, 228),
    [
        (16, 24, 32),  # black, red, green, yellow, blue, magenta, cyan, white
        (240, 113, 120),
        (126, 200, 140),
        (229, 192, 123),
        (110, 175, 235),
        (198, 140, 220),
        (95, 195, 205),
        (214, 222, 228),
    ],
)
_STYLES = {
    r"^\$ .*": "bold",
    r"^ {6,}.*": "dim",
    r"^\S.*:$|^(Flow runs|The live model)\b.*": "bold",
    r"\b(Completed|live|healthy|passed)\b": "green",
    r"\b(Running|Pending|Scheduled|Submitting)\b": "cyan",
    r"\b(Failed|Crashed|Rejected)\b": "red",
    r"https?://\S+": "blue",
}
_FORMAT = """\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} HEIGHT" role="img"
  aria-label="Recording of make demo">
<style>
  text {{ font: 20px ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; white-space: pre }}
  {styles}
  .scroll {{ transform: translateY(SCROLL_ENDpx); animation: scroll TOTALs step-end infinite }}
  .curtain {{ transform: translateY(CURTAIN_ENDpx); animation: curtain TOTALs step-end infinite }}
  @keyframes scroll {{ SCROLL_KEYS }}
  @keyframes curtain {{ CURTAIN_KEYS }}
  @media (prefers-reduced-motion) {{ .scroll, .curtain {{ animation: none }} }}
</style>
<clipPath id="screen"><rect x="0" y="MARGIN" width="100%" height="SCREEN"/></clipPath>
<defs>{lines}</defs>
<rect width="100%" height="100%" rx="10" fill="#101820"/>
<g clip-path="url(#screen)"><g class="scroll"><g transform="translate(MARGIN MARGIN)">
{backgrounds}{matrix}
<rect class="curtain" x="-MARGIN" width="{width}" height="200%" fill="#101820"/>
</g></g></g>
</svg>
"""


def read_lines(command: str) -> tuple[list[str], list[float]]:
    """Read standard input to its end, and show it.

    Returns:
        Its lines, the command first, and the second at which each is shown.
    """
    lines, moments = [f"$ {command}"], [0.0]
    before = time.monotonic()
    for line in sys.stdin:
        sys.stdout.write(line)
        pause = time.monotonic() - before
        before += pause
        lines.append(line.rstrip())
        moments.append(moments[-1] + min(max(pause, _SHORTEST_PAUSE), _LONGEST_PAUSE))
    return lines, moments


def style(line: str) -> Text:
    """Return a line with the colours that it has on a terminal."""
    text = Text(line, no_wrap=True, overflow="crop")
    for pattern, name in _STYLES.items():
        text.highlight_regex(re.compile(pattern), name)
    return text


def draw(lines: list[str], moments: list[float]) -> str:
    """Return the animated SVG."""
    console = Console(record=True, width=_COLUMNS, file=io.StringIO())
    for line in lines:
        console.print(style(line))
    total = moments[-1] + _LAST_SCREEN
    curtain, scroll = [], []
    for number, moment in enumerate(moments, start=1):
        share = f"{100 * moment / total:.1f}%"
        shift = -max(0, number - _ROWS) * _LINE_HEIGHT
        curtain.append(f"{share} {{ transform: translateY({number * _LINE_HEIGHT:.0f}px) }}")
        scroll.append(f"{share} {{ transform: translateY({shift:.1f}px) }}")
    screen = min(len(lines), _ROWS) * _LINE_HEIGHT
    svg = console.export_svg(title="make demo", theme=_THEME, code_format=_FORMAT)
    for name, value in {
        "CURTAIN_END": f"{len(lines) * _LINE_HEIGHT:.1f}",
        "CURTAIN_KEYS": " ".join(curtain),
        "SCROLL_END": f"{-max(0, len(lines) - _ROWS) * _LINE_HEIGHT:.1f}",
        "SCROLL_KEYS": " ".join(scroll),
        "TOTAL": f"{total:.1f}",
        "HEIGHT": f"{screen + 2 * _MARGIN:.0f}",
        "SCREEN": f"{screen:.1f}",
        "MARGIN": str(_MARGIN),
    }.items():
        svg = svg.replace(name, value)
    return svg


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(draw(*read_lines("make demo")))
