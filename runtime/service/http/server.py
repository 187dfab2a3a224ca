"""The uvicorn server of a process: it ends as told, and serves connections that another process has accepted."""

import asyncio
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, NoReturn

import uvicorn

from fusioncam.runtime.service.side_server import SideServer


class Server(uvicorn.Server):
    """A server that leaves signals to its caller.

    Args:
        config: See uvicorn.
        hasty: Whether a second signal ends the process at once.
        tick: Called ten times a second, as long as the event loop goes round.
        side_server: Stops with this one.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        hasty: bool,
        tick: Callable[[], None] = lambda: None,
        side_server: SideServer | None = None,
    ) -> None:
        super().__init__(config)
        self._hasty, self._tick, self._side_server = hasty, tick, side_server or SideServer()
        self._loop: asyncio.AbstractEventLoop | None = None

    async def on_tick(self, counter: int) -> bool:
        """Call `tick`; uvicorn calls this method ten times a second."""
        self._loop = asyncio.get_running_loop()
        self._tick()
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Finish what was begun, on both servers at a time."""
        stopping = asyncio.create_task(self._side_server.stop())
        await super().shutdown(sockets)
        await stopping

    def take(self, connection: socket.socket) -> None:
        """Serve a connection that another process has accepted. Any thread may call this."""
        try:
            assert self._loop is not None
            asyncio.run_coroutine_threadsafe(self._loop.connect_accepted_socket(self._protocol, connection), self._loop)
        except (AssertionError, RuntimeError):  # the loop does not run yet, or any more
            connection.close()

    def _protocol(self) -> asyncio.Protocol:
        protocol_class: Any = self.config.http_protocol_class
        protocol: asyncio.Protocol = protocol_class(self.config, self.server_state, self.lifespan.state)
        return protocol

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals alone: uvicorn would raise them again in the end, and not exit with 0."""
        yield

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Have the server end; uvicorn hurries for SIGINT only, and only as long as connections are open."""
        if self.should_exit and self._hasty:
            exit_now()
        self.should_exit = True

    def run_until(self, numbers: tuple[signal.Signals, ...], listening: socket.socket) -> None:
        """Serve until one of some signals comes; ignore them from then on, because Python would die of them."""
        for number in numbers:
            signal.signal(number, self.handle_exit)
        self.run([listening])
        for number in numbers:
            signal.signal(number, signal.SIG_IGN)


def exit_now() -> NoReturn:
    """End the process at once, in the middle of the work of other threads."""
    logging.shutdown()
    with suppress(OSError):
        sys.stdout.flush()
    os._exit(0)
