"""One process of the service: it loads the models and answers requests until it is told to end."""

import asyncio
import gc
import logging
import os
import pickle
import signal
import socket
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np
import uvicorn
from fastapi import FastAPI

from fusioncam.runtime.engine import ExplainRequest, SizedPipelines
from fusioncam.runtime.explainer import Explainer
from fusioncam.runtime.methods import checked_methods
from fusioncam.runtime.photos.given import Given
from fusioncam.runtime.picture_inputs import drawn_inputs
from fusioncam.runtime.service.batching.batcher import Batcher
from fusioncam.runtime.service.http.app import make_app
from fusioncam.runtime.service.http.loading import LoadingApp
from fusioncam.runtime.service.http.server import Server, exit_now
from fusioncam.runtime.service.http.sockets import close_unread, raise_file_limit
from fusioncam.runtime.service.monitoring.logs import log_config
from fusioncam.runtime.service.monitoring.metrics import Metrics
from fusioncam.runtime.service.repository.model_repository import Change, ModelRepository
from fusioncam.runtime.service.service import Service
from fusioncam.runtime.service.side_server import SideServer
from fusioncam.runtime.service.workers.channel import Channel
from fusioncam.runtime.service.workers.connection_ledger import LedgerMixin
from fusioncam.runtime.service.workers.hangup import ignore_hangup, on_hangup
from fusioncam.runtime.service.workers.heartbeat import SILENCE, Heartbeat, Liveness
from fusioncam.runtime.service.workers.worker_config import END_SIGNALS, WorkerConfig
from fusioncam.runtime.sessions.heap import return_freed_memory

KEEP_ALIVE = 65  # seconds to keep an idle connection: longer than proxies keep theirs
CONNECTIONS = 900  # open at a time at least, if the process may open so many files and
OWN_FILES = 100  # those of its own
MOMENT = 0.5  # seconds in which an idle thread that is told to end has ended


def open_repository(config: WorkerConfig, metrics: Metrics, liveness: Liveness) -> ModelRepository:
    """Return the repository with its models loaded.

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

    return ModelRepository(config.models, open_batcher, config.absent, _settle)


def _settle() -> None:
    """Free what nothing refers to, and leave all else out of later collections.

    Python looks for cycles among all objects only when there are a quarter more than at the last look. Without those
    that stay for good it looks often enough to let go of requests that failed before they pile up.
    """
    gc.unfreeze()
    gc.collect()
    gc.freeze()
    return_freed_memory()


def _open_pipeline(config: WorkerConfig, bundle: Path) -> SizedPipelines:
    """Load a model, and have it explain a few times: first runs allocate, and take longer than deadlines allow for."""
    methods = checked_methods(None, config.settings.check_bundle(bundle).gradient)
    explainer = Explainer(
        bundle, config.providers, methods, chunk=config.chunk, threads=config.threads, allow_cpu=config.allow_cpu
    )
    pipeline = explainer.pipeline
    preprocessing, rng = pipeline.manifest.preprocessing, np.random.default_rng(0)
    pixels = rng.integers(0, 256, (*preprocessing.size, preprocessing.channels), np.uint8)
    picture = Given.photo(pixels if preprocessing.takes_photos else pixels.astype(np.float32))
    budget = pipeline.chunk + 4  # one whole run, and the passes of the fusion
    inputs = drawn_inputs(pipeline.manifest)
    task = pipeline.task(ExplainRequest(picture, [pipeline.trial], methods, budget, inputs=inputs))
    list(pipeline.run([task], methods))
    pipeline.rehearse(methods)
    return explainer.pipelines


class Worker:
    """One process of the service: its servers, and its connection to the parent.

    Args:
        config: The configuration.
        ready: Called once the models are loaded.
        at_once: See `serve`, as for the others.
        hasty: See `serve`.
        channel: See `serve`.
    """

    def __init__(
        self, config: WorkerConfig, ready: Callable[[], None], at_once: bool, hasty: bool, channel: Channel | None
    ) -> None:
        self._config, self._ready, self._heartbeat = config, ready, None
        self._loaded = Future[asyncio.AbstractEventLoop]()
        # A request whose step takes longer has been answered long ago that it is late.
        self._liveness = Liveness(2 * config.settings.timeout + SILENCE)
        if channel is not None:
            self._heartbeat = Heartbeat(
                channel,
                self._liveness,
                lambda connection: self._server.take(connection),
                lambda: self._metrics.samples(),
                self._obey,
            )
        self._metrics = Metrics() if self._heartbeat is None else Metrics(self._heartbeat.share)
        self._side_server = _side_server(config, self._metrics)
        self._app = LoadingApp(self._open, self._opened, at_once, self._side_server)
        uvicorn_config = _uvicorn_config(self._app, config, self._heartbeat)
        self._server = Server(uvicorn_config, hasty, self._liveness.tick, self._side_server)
        self._most_connections = _most_connections(config)

    def run(self, listening: socket.socket) -> int:
        """Answer requests until a signal says to end; return the exit status.

        Raises:
            FusionCamError: A model cannot be loaded or run.
        """
        if self._heartbeat is not None:
            self._heartbeat.start()
            ignore_hangup()  # the parent takes it
        else:
            on_hangup(self._reload, lambda: self._server.handle_exit(signal.SIGHUP, None))
        close_unread(listening, self._config.settings.timeout)
        logging.captureWarnings(True)
        self._server.run_until(END_SIGNALS, listening)
        ignore_hangup()
        if self._app.error is not None:
            raise self._app.error
        _leave_threads()
        return 0

    def _open(self) -> FastAPI:
        """Load the models, and return the application."""
        repository = open_repository(self._config, self._metrics, self._liveness)
        change = None if self._heartbeat is None else self._heartbeat.change
        service = Service(repository, self._config.settings, self._metrics, change)
        app = make_app(service, self._is_crowded)
        self._side_server.open(service)
        self._repository = repository
        _settle()
        return app

    def _opened(self) -> None:
        if self._app.error is not None:
            self._server.should_exit = True
            return
        self._loaded.set_result(asyncio.get_running_loop())
        self._ready()
        if self._heartbeat is not None:
            self._heartbeat.ready()

    def _reload(self) -> None:
        """Load all models anew that are loaded; in a handler of a signal."""
        if self._loaded.done():
            asyncio.run_coroutine_threadsafe(self._repository.reload(), self._loaded.result())

    def _obey(self, step: str, change: Change) -> None:
        """Take a step of a change that the parent makes, once the models are loaded; in a thread of the heartbeat.

        Raises:
            FusionCamError: A bundle cannot be opened.
        """
        loop = self._loaded.result()

        async def take() -> None:
            if step == "stage":
                await self._repository.stage(change)
            elif step == "commit":
                self._repository.commit()
            else:
                self._repository.drop()

        asyncio.run_coroutine_threadsafe(take(), loop).result()

    def _is_crowded(self) -> bool:  # uvicorn's own limit answers in plain text, without Retry-After
        return len(self._server.server_state.connections) > self._most_connections


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
    return Worker(config, ready, at_once, hasty, channel).run(listening)


def _most_connections(config: WorkerConfig) -> int:
    """Return the most connections of each protocol."""
    files = raise_file_limit() - OWN_FILES
    return min(max(CONNECTIONS, 2 * config.settings.concurrency), files if config.grpc_address is None else files // 2)


def _side_server(config: WorkerConfig, metrics: Metrics) -> SideServer:
    """Return the gRPC server, where there is to be one."""
    if config.grpc_address is None:
        return SideServer()
    from fusioncam.runtime.service.grpc.server import GrpcServer

    return GrpcServer(
        config.grpc_address, config.settings, metrics, config.models, _most_connections(config), config.grace
    )


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
