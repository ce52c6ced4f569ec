"""Refuse a table that the memory cannot hold, before it is read."""

import os
import resource
from collections.abc import Iterator
from pathlib import Path

from model.params import ConfigError

GIGABYTE = 2**30
# Peak of the stage `process` over the size of data/raw.csv: 4.9 for 1,000,000 rows x 20 numbers.
TABLE_SHARE = 5
# Of the container, by version of Linux' control groups.
LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def require_memory(size: int, source: str) -> None:
    """Refuse a table of a size, in bytes of CSV, that the memory cannot hold.

    Raises:
        ConfigError: It takes more memory than this process may have.
    """
    available = min(list_limits())
    if size * TABLE_SHARE > available:
        problem = (
            f"{source} is a table of at least {size / GIGABYTE:,.1f} GB; to read it takes about "
            f"{size * TABLE_SHARE / GIGABYTE:,.1f} GB of memory, and a stage may have "
            f"{available / GIGABYTE:,.1f} GB"
        )
        hint = "use fewer rows or columns, raise SLIPWAY_SANDBOX_MEMORY_GB, or use a larger host"
        raise ConfigError("data.source", f"{problem}; {hint}")


def list_limits() -> Iterator[int]:
    """Yield what limits the memory of this process, in bytes: host, container, sandbox."""
    yield os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    soft, _ = resource.getrlimit(resource.RLIMIT_DATA)
    if soft != resource.RLIM_INFINITY:
        yield soft
    for name in LIMITS:
        text = Path(name).read_text().strip() if Path(name).is_file() else ""
        if text.isdigit():  # not `max`
            yield int(text)
