"""Metrics of several processes as those of one server: a scrape of any of them shows the sum.

Each process counts in files of its own (the multiprocess mode of prometheus_client). They are named
after the place of the process among the others, not after its id: the one that takes the place of
a process that died counts on in its files.
"""

import mmap
import os
from collections.abc import Iterator
from pathlib import Path

from prometheus_client import CollectorRegistry, Metric, ProcessCollector, values
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

PARENT = 0  # the place of the process that forks the others


class SharedMetrics:
    """The files of metrics of a server's processes, and the ids of these."""

    def __init__(self, folder: Path, workers: int) -> None:
        """Have all metrics that are made from now on count in files.

        Args:
            folder: an empty one, that goes with the server.
            workers: processes beside the parent.
        """
        self._folder = folder
        self._place = PARENT
        # Shared with all that are forked from now on.
        self._ids = memoryview(mmap.mmap(-1, 4 * (workers + 1))).cast("i")
        self._ids[PARENT] = os.getpid()
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(folder)
        # As prometheus_client documents it for other names of processes than their ids.
        values.ValueClass = values.MultiProcessValue(lambda: self._place)  # type: ignore[no-untyped-call]

    def take(self, place: int) -> None:
        """Count as the process of a place from now on."""
        self._place = place
        self._ids[place] = os.getpid()

    def leave(self, place: int) -> None:
        """Forget what the process of a place was doing when it died; what it counted stays."""
        self._ids[place] = 0
        mark_process_dead(place, str(self._folder))  # type: ignore[no-untyped-call]

    def make_registry(self) -> CollectorRegistry:
        """Make the registry of a scrape."""
        registry = CollectorRegistry()
        MultiProcessCollector(registry, str(self._folder))  # type: ignore[no-untyped-call]
        registry.register(self)
        return registry

    def collect(self) -> Iterator[Metric]:
        """Add up what the system says of the processes; the start is that of the first."""
        total: dict[str, Metric] = {}
        for identifier in self._ids:
            if not identifier:
                continue
            process = ProcessCollector(pid=lambda number=identifier: number, registry=None)  # type: ignore[misc]
            for metric in process.collect():
                known = total.setdefault(metric.name, metric)
                if known is metric:
                    continue
                for number, sample in enumerate(metric.samples):
                    parts = (known.samples[number].value, sample.value)
                    value = min(parts) if "start_time" in sample.name else sum(parts)
                    known.samples[number] = sample._replace(value=value)
        yield from total.values()
