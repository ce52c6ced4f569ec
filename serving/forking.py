"""Several processes that serve one model, and share its memory and its address.

The parent loads and proves the model, and forks the workers: what they only read is in memory once.
Each proves the model again in its own process, and all accept connections from one socket, whoever
has time. They begin to listen when the last one is ready. The parent serves nothing: it passes
signals on, and forks another worker if one dies.
"""

import contextlib
import logging
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkProcess
from pathlib import Path
from socket import socket
from threading import Thread
from types import FrameType

from serving.bundle import Bundle, load_model, read_bundle
from serving.server import Server, make_config
from serving.settings import FAILED, Settings
from serving.shared_metrics import SharedMetrics

log = logging.getLogger("serving")

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
PAUSE_SECONDS = 1.0  # before the next start, where a worker has lived no longer


def serve(settings: Settings) -> int:
    """Serve a bundle by several workers until SIGTERM; return the exit status.

    Raises:
        BundleError: the bundle cannot be served.
    """
    with tempfile.TemporaryDirectory(prefix="slipway-metrics-") as folder:
        shared = SharedMetrics(Path(folder), settings.limits.workers)
        bundle = read_bundle(settings.bundle)
        bundle.model = load_model(bundle)
        # Proves the model before anything is forked, and imports what it needs, once for all.
        trial = Server(replace(settings, log=None), bundle)
        if not trial.load():
            return FAILED
        restarts = trial.app.state.service.metrics.worker_restarts
        with make_config(settings).bind_socket() as listener, tempfile.TemporaryFile() as lock:
            site = Site(settings.split(lock.fileno()), bundle, shared, listener)
            return Parent(site, restarts.inc).run(settings.limits.workers)


@dataclass(frozen=True)
class Site:
    """The model, the address and the metrics that the parent has prepared for its workers."""

    settings: Settings  # of one worker
    bundle: Bundle  # its model is loaded
    shared: SharedMetrics
    listener: socket  # bound; the first worker that serves has it listen


@dataclass(frozen=True)
class Worker:
    """A worker as its parent knows it."""

    place: int  # among the others, from 1
    process: ForkProcess
    channel: Connection  # over which it says that it is ready, and is told to serve
    start: float


class Parent:
    """The process that forks the workers, and passes signals on to them."""

    def __init__(self, site: Site, count_restart: Callable[[], None]) -> None:
        """Begin without a worker.

        Args:
            site: what they serve, and where.
            count_restart: called for each worker that takes the place of one that died.
        """
        self._site = site
        self._count_restart = count_restart
        self._workers: dict[int, Worker] = {}  # by place
        self._is_stopping = self._is_draining = False

    def run(self, count: int) -> int:
        """Serve by so many workers until SIGTERM; return the exit status."""
        for number in SIGNALS:
            signal.signal(number, self._pass_on)
        for place in range(1, count + 1):
            self._start(place)
        try:
            for worker in self._workers.values():
                worker.channel.recv()
        except EOFError:  # it has ended; its log says why
            status = 0 if self._is_stopping else FAILED
            self._pass_on(signal.SIGTERM)
            self._wait_for_all()
            return status
        log.info("%s: %d workers are ready", self._site.bundle.name, count)
        for worker in self._workers.values():
            worker.channel.send(None)
        self._wait_for_all()
        return 0

    def _wait_for_all(self) -> None:
        """Wait until all workers have ended; unless they are to, replace each that does."""
        while self._workers:
            sentinels = wait([worker.process.sentinel for worker in self._workers.values()])
            for worker in [*self._workers.values()]:
                if worker.process.sentinel in sentinels:
                    del self._workers[worker.place]  # first: no signal to an id that is reused
                    worker.process.join()
                    worker.channel.close()
                    self._site.shared.leave(worker.place)
                    if not self._is_stopping:
                        self._replace(worker)

    def _replace(self, worker: Worker) -> None:
        log.error(
            "worker %d (process %d) ended with %s; another one takes its place",
            worker.place, worker.process.pid, worker.process.exitcode,
        )  # fmt: skip
        if time.monotonic() - worker.start < PAUSE_SECONDS:
            time.sleep(PAUSE_SECONDS)
        if not self._is_stopping:
            self._count_restart()
            self._start(worker.place).channel.send(None)

    def _start(self, place: int) -> Worker:
        """Fork a worker. Signals that come meanwhile wait, there until it can handle them."""
        channel, other = get_context("fork").Pipe()
        process = get_context("fork").Process(
            target=self._work, args=(place, channel, other), name=f"worker-{place}"
        )
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        try:
            process.start()
            worker = self._workers[place] = Worker(place, process, channel, time.monotonic())
            other.close()
            if self._is_draining:
                self._send(worker, signal.SIGUSR1)
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        return worker

    def _pass_on(self, number: int, _: FrameType | None = None) -> None:
        if number == signal.SIGUSR1:
            self._is_draining = True
        else:
            self._is_stopping, number = True, signal.SIGTERM
            # Open, it would take connections that nobody answers once the workers have closed it.
            self._site.listener.close()
        for worker in self._workers.values():
            self._send(worker, number)

    @staticmethod
    def _send(worker: Worker, number: int) -> None:
        assert worker.process.pid is not None
        with contextlib.suppress(ProcessLookupError):  # it has just ended
            os.kill(worker.process.pid, number)

    def _work(self, place: int, parents_end: Connection, channel: Connection) -> None:
        """Be a worker, in the forked process."""
        # With a copy of its end, no worker would see that the parent is gone.
        for end in [parents_end, *(worker.channel for worker in self._workers.values())]:
            end.close()
        site = self._site
        site.shared.take(place)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: sys.exit(0))
        server = Server(site.settings, site.bundle, site.shared)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        if not server.load():
            sys.exit(FAILED)
        try:
            channel.send(None)
            channel.recv()
        except (EOFError, OSError):
            sys.exit(FAILED)
        Thread(target=_stop_without_parent, args=(channel,), daemon=True).start()
        server.run(sockets=[site.listener])
        sys.exit(server.status)


def _stop_without_parent(channel: Connection) -> None:
    """Stop as by SIGTERM once the parent is gone: another server may want the address."""
    wait([channel])
    os.kill(os.getpid(), signal.SIGTERM)
