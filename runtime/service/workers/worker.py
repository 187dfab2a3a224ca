"""One process of the service: it loads the models and answers requests until it is told to end."""

import gc
import logging
import os
import pickle
import signal
import socket
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np
import uvicorn
from fastapi import FastAPI

from fusioncam.runtime.engine import TOP_CLASS, ExplainRequest, Pipeline
from fusioncam.runtime.explainer import Explainer
from fusioncam.runtime.methods import checked_methods
from fusioncam.runtime.service.batching.batcher import Batcher
from fusioncam.runtime.service.http.app import make_app
from fusioncam.runtime.service.http.loading import LoadingApp
from fusioncam.runtime.service.http.server import Server, exit_now
from fusioncam.runtime.service.http.sockets import close_unread, raise_file_limit
from fusioncam.runtime.service.monitoring.logs import log_config
from fusioncam.runtime.service.monitoring.metrics import Metrics
from fusioncam.runtime.service.repository.model_repository import ModelRepository
from fusioncam.runtime.service.service import Service
from fusioncam.runtime.service.workers.channel import Channel
from fusioncam.runtime.service.workers.connection_ledger import LedgerMixin
from fusioncam.runtime.service.workers.heartbeat import SILENCE, Heartbeat, Liveness
from fusioncam.runtime.service.workers.worker_config import END_SIGNALS, WorkerConfig

KEEP_ALIVE = 65  # seconds to keep an idle connection: longer than proxies keep theirs
CONNECTIONS = 900  # open at a time at least, if the process may open so many files and
OWN_FILES = 100  # those of its own
MOMENT = 0.5  # seconds in which an idle thread that is told to end has ended


def open_app(config: WorkerConfig, metrics: Metrics, liveness: Liveness, crowded: Callable[[], bool]) -> FastAPI:
    """Return the application with its models loaded; see `make_app`.

    Raises:
        FusionCamError: A model cannot be loaded or run.
    """

    def open_batcher(name: str, bundle: Path) -> Batcher:
        return Batcher(
            name,
            partial(_open_pipeline, config, bundle),
            max_batch=config.max_batch,
            queue=config.queue,
            observer=metrics,
            step=liveness.step,
        )

    repository = ModelRepository(config.models, open_batcher, released=_settle)
    app = make_app(Service(repository, config.settings, metrics), crowded)
    _settle()
    return app


def _settle() -> None:
    """Collect what nothing refers to, and leave all else out of later collections.

    Python looks for cycles among all objects only when there are a quarter more than at the last look. Without those
    that stay for good it looks often enough to let go of requests that failed before they pile up.
    """
    gc.unfreeze()
    gc.collect()
    gc.freeze()


def _open_pipeline(config: WorkerConfig, bundle: Path) -> Pipeline:
    """Load a model, and have it explain a few times: first runs allocate, and take longer than deadlines allow for."""
    methods = checked_methods(None, config.settings.check_bundle(bundle).gradient)
    explainer = Explainer(
        bundle, config.providers, methods, chunk=config.chunk, threads=config.threads, allow_cpu=config.allow_cpu
    )
    pipeline = explainer.pipeline
    size = pipeline.manifest.preprocessing.size
    picture = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    budget = pipeline.chunk + 4  # one whole run, and the passes of the fusion
    task = pipeline.task(ExplainRequest(picture, [TOP_CLASS], methods, budget))
    list(pipeline.run([task], methods))
    pipeline.rehearse(methods)
    return pipeline


def serve(
    config: WorkerConfig,
    listening: socket.socket,
    ready: Callable[[], None] = lambda: None,
    at_once: bool = True,
    hasty: bool = True,
    channel: Channel | None = None,
) -> int:
    """Answer requests until a signal says to end; then finish those that were begun.

    Args:
        config: The configuration.
        listening: The socket.
        ready: Called once the models are loaded.
        at_once: Whether requests are answered while they are being loaded, see `LoadingApp`.
        hasty: Whether a second signal ends the process at once. One of several may get the first signal twice: as one
            of a group, as systemd sends it, and from `WorkerPool`, which kills its workers after the second.
        channel: To the parent, for one of several processes.

    Returns:
        The exit status.

    Raises:
        FusionCamError: A model cannot be loaded or run.
    """

    def opened() -> None:
        if app.error is not None:
            server.should_exit = True
            return
        ready()
        if heartbeat is not None:
            heartbeat.ready()

    def crowded() -> bool:  # uvicorn's own limit answers in plain text, without Retry-After
        return len(server.server_state.connections) > most

    most = min(max(CONNECTIONS, 2 * config.settings.concurrency), raise_file_limit() - OWN_FILES)
    # A request whose step takes longer has been answered long ago that it is late.
    liveness = Liveness(2 * config.settings.timeout + SILENCE)
    heartbeat = None
    if channel is not None:
        heartbeat = Heartbeat(channel, liveness, lambda connection: server.take(connection), lambda: metrics.samples())
    metrics = Metrics() if heartbeat is None else Metrics(heartbeat.share)
    app = LoadingApp(lambda: open_app(config, metrics, liveness, crowded), opened, at_once)
    server = Server(_uvicorn_config(app, config, heartbeat), hasty, liveness.tick)
    if heartbeat is not None:
        heartbeat.start()
    close_unread(listening, config.settings.timeout)
    logging.captureWarnings(True)
    server.run_until(END_SIGNALS, listening)
    if app.error is not None:
        raise app.error
    _leave_threads()
    return 0


def _uvicorn_config(app: LoadingApp, config: WorkerConfig, heartbeat: Heartbeat | None) -> uvicorn.Config:
    """Return the configuration of the server, which enters connections into the ledger of a heartbeat."""
    uvicorn_config = uvicorn.Config(
        app,
        log_config=log_config(config.log_level),
        access_log=False,
        lifespan="on",
        ws="none",
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=int(config.grace),
    )
    uvicorn_config.load()
    if heartbeat is not None:
        bases = LedgerMixin, uvicorn_config.http_protocol_class
        uvicorn_config.http_protocol_class = type("Protocol", bases, {"ledger": heartbeat.ledger})
    return uvicorn_config


def _leave_threads() -> None:
    """End the process at once if a thread is left that Python would wait for: one that decodes a photo, or loads."""
    threads = [t for t in threading.enumerate() if t is not threading.main_thread() and not t.daemon]
    for thread in threads:
        thread.join(MOMENT)
    if any(thread.is_alive() for thread in threads):
        exit_now()


def run_worker(arguments: list[str]) -> int:
    """Run one of several workers, and return its exit status.

    A `WorkerConfig` comes on standard input, which stays open as long as the parent process lives.

    Args:
        arguments: The descriptors of the listening socket and of the channel, and 1 to answer while loading.

    Raises:
        FusionCamError: A model cannot be loaded or run.
    """
    listening, channel, at_once = map(int, arguments)
    config: WorkerConfig = pickle.load(sys.stdin.buffer)
    threading.Thread(target=_end_with_parent, name="lifeline", daemon=True).start()
    to_parent = Channel(socket.socket(fileno=channel))
    return serve(config, socket.socket(fileno=listening), at_once=bool(at_once), hasty=False, channel=to_parent)


def _end_with_parent() -> None:
    """End as upon a signal once standard input is closed, which means that the parent process is gone."""
    with suppress(OSError):
        while os.read(0, 1):  # not by sys.stdin, whose lock would be in the way at the end
            pass
    os.kill(os.getpid(), signal.SIGTERM)
