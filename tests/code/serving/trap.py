"""A pickle that shows that it was loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any


class Trap:
    """Unpickling this leaves a mark."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return (Path.touch, (self.mark,))
