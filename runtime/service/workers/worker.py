"""One process of the service: it loads the models and answers requests until it is told to end.

`WorkerHandle` starts it as `python -m fusioncam.runtime.service.workers.worker SOCKET CHANNEL AT_ONCE`, with a
`WorkerConfig` on standard input, which stays open as long as the parent process lives.
"""

import asyncio
import gc
import logging
import os
import pickle
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import uvicorn
from fastapi import FastAPI

from fusioncam.manifest import read_bundle
from fusioncam.runtime.commands import console
from fusioncam.runtime.explainer import Explainer
from fusioncam.runtime.methods import METHODS
from fusioncam.runtime.service.batching.batcher import Batcher
from fusioncam.runtime.service.http.app import make_app
from fusioncam.runtime.service.http.loading import LoadingApp
from fusioncam.runtime.service.http.sockets import raise_file_limit
from fusioncam.runtime.service.monitoring.logs import log_config
from fusioncam.runtime.service.monitoring.metrics import Metrics
from fusioncam.runtime.service.workers.channel import Channel
from fusioncam.runtime.service.workers.connection_ledger import LedgerMixin
from fusioncam.runtime.service.workers.heartbeat import SILENCE, Heartbeat, Liveness
from fusioncam.runtime.service.workers.worker_config import ENDING, WorkerConfig

KEEP_ALIVE = 65  # seconds that an idle connection is kept: longer than proxies keep theirs
CONNECTIONS = 900  # let in at least, where the system lets the process open so many files and
OWN_FILES = 100  # those it has for itself
MOMENT = 0.5  # seconds in which a thread that is told to end, and has nothing to do, has ended


class Server(uvicorn.Server):
    """A server that leaves signals to whoever runs it.

    Args:
        config: See uvicorn.
        hasty: Whether a second signal ends the process at once.
        liveness: Is told that the event loop goes round.
    """

    def __init__(self, config: uvicorn.Config, hasty: bool, liveness: Liveness | None = None) -> None:
        super().__init__(config)
        self._hasty, self._liveness = hasty, liveness
        self._loop: asyncio.AbstractEventLoop | None = None

    async def on_tick(self, counter: int) -> bool:
        """Be alive, ten times a second."""
        self._loop = asyncio.get_running_loop()
        if self._liveness is not None:
            self._liveness.turn()
        return await super().on_tick(counter)

    def take(self, connection: socket.socket) -> None:
        """Go on with a connection that another process has accepted; may be called from any thread."""
        try:
            assert self._loop is not None
            asyncio.run_coroutine_threadsafe(self._loop.connect_accepted_socket(self._protocol, connection), self._loop)
        except (AssertionError, RuntimeError):  # it does not run yet, or any more
            connection.close()

    def _protocol(self) -> asyncio.Protocol:
        kind: Any = self.config.http_protocol_class
        made: asyncio.Protocol = kind(self.config, self.server_state, self.lifespan.state)
        return made

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Nothing: uvicorn would raise the signal again in the end, and so not exit with 0."""
        yield

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Have it end; uvicorn hurries for SIGINT only, and only as long as connections are open."""
        if self.should_exit and self._hasty:
            leave()
        self.should_exit = True


def open_app(config: WorkerConfig, metrics: Metrics, liveness: Liveness, crowded: Callable[[], bool]) -> FastAPI:
    """The application, with its models loaded; see `make_app`.

    Raises:
        FusionCamError: A model cannot be loaded or run.
    """
    models = {
        name: Batcher(
            name,
            partial(_open_explainer, config, bundle),
            max_batch=config.max_batch,
            queue=config.queue,
            observer=metrics,
            step=liveness.step,
        )
        for name, bundle in config.models.items()
    }
    app = make_app(models, config.settings, metrics, crowded=crowded)
    # Python looks for cycles among all objects only when there are a quarter more than at the last look. Without those
    # that stay for good it looks often enough to let go of requests that failed before they pile up.
    gc.collect()
    gc.freeze()
    return app


def _open_explainer(config: WorkerConfig, bundle: Path) -> Explainer:
    """Load a model, and have it explain once: first runs allocate, and take longer."""
    methods = METHODS if read_bundle(bundle).gradient else ("score_cam",)
    explainer = Explainer(bundle, config.providers, methods, chunk=config.chunk, threads=config.threads)
    size = explainer.manifest.preprocessing.size
    picture = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    budget = explainer.chunk + 4  # one whole run, and what the fusion asks for besides
    for _ in explainer.finish([explainer.explaining(picture, [-1], budget=budget)]):
        pass
    return explainer


def serve(
    config: WorkerConfig,
    listening: socket.socket,
    ready: Callable[[], None] = lambda: None,
    at_once: bool = True,
    hasty: bool = True,
    channel: Channel | None = None,
) -> int:
    """Answer requests until a signal says to end; then finish what was begun.

    Args:
        config: What to do.
        listening: The socket.
        ready: Called once the models are loaded.
        at_once: Whether requests are answered while they are being loaded, see `LoadingApp`.
        hasty: Whether a second signal ends the process at once. One of several may get the first twice: as one of a
            group, as systemd does it, and from `WorkerPool`, which kills them upon the second.
        channel: To whoever started this process as one of several.

    Returns:
        The exit status.

    Raises:
        FusionCamError: A model cannot be loaded or run.
    """

    def opened() -> None:
        if loading.error is None:
            ready()
            if heartbeat is not None:
                heartbeat.ready()
        else:
            server.should_exit = True

    def crowded() -> bool:  # uvicorn's own limit answers in plain text, and does not say when to ask again
        return len(server.server_state.connections) > most

    most = min(max(CONNECTIONS, 2 * config.settings.concurrency), raise_file_limit() - OWN_FILES)
    # Those who wait for a longer step have been answered long ago that it is late.
    liveness = Liveness(2 * config.settings.timeout + SILENCE)
    heartbeat = None if channel is None else Heartbeat(channel, liveness, lambda connection: server.take(connection))
    metrics = Metrics() if heartbeat is None else Metrics(heartbeat.share)
    loading = LoadingApp(lambda: open_app(config, metrics, liveness, crowded), opened, at_once)
    uvicorn_config = uvicorn.Config(
        loading,
        log_config=log_config(config.log_level),
        access_log=False,
        lifespan="on",
        ws="none",
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=int(config.grace),
    )
    uvicorn_config.load()
    server = Server(uvicorn_config, hasty, liveness)
    if heartbeat is not None:
        bases = LedgerMixin, uvicorn_config.http_protocol_class
        uvicorn_config.http_protocol_class = type("Protocol", bases, {"ledger": heartbeat.ledger})
        heartbeat.watch(metrics.figures)
        heartbeat.start()
    _hang_up_on_the_deaf(listening, config.settings.timeout)
    logging.captureWarnings(True)
    for number in ENDING:
        signal.signal(number, server.handle_exit)
    server.run([listening])
    for number in ENDING:  # it is ending; Python's own way would be to die of it
        signal.signal(number, signal.SIG_IGN)
    if loading.error is not None:
        raise loading.error
    others = set(threading.enumerate()) - {threading.main_thread()}
    others = {thread for thread in others if thread is loading.thread or not thread.daemon}
    for thread in others:
        thread.join(MOMENT)
    if any(thread.is_alive() for thread in others):
        leave()  # Python would wait for a thread that decodes a photo
    return console.DONE


def _hang_up_on_the_deaf(listening: socket.socket, seconds: float) -> None:
    """Have the system close connections of clients that have not read for so long; elsewhere than on Linux, never."""
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, min(int(seconds * 1000) + 1, (1 << 31) - 1))


def leave() -> None:
    """End at once, in the middle of what other threads do."""
    logging.shutdown()
    with suppress(OSError):
        sys.stdout.flush()
    os._exit(console.DONE)


def _outlive_nobody() -> None:
    """End as upon a signal once standard input is closed, which means that whoever started this process is gone."""

    def watch() -> None:
        with suppress(OSError):
            while os.read(0, 1):  # not by sys.stdin, whose lock would be in the way at the end
                pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="lifeline", daemon=True).start()


def _main(arguments: list[str]) -> int:
    listening, channel, at_once = map(int, arguments)
    config: WorkerConfig = pickle.load(sys.stdin.buffer)
    _outlive_nobody()
    to_parent = Channel(socket.socket(fileno=channel))
    return serve(config, socket.socket(fileno=listening), at_once=bool(at_once), hasty=False, channel=to_parent)


if __name__ == "__main__":
    console.run_command(_main, sys.argv[1:])
