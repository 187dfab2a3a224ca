"""The gRPC server of a process, beside its HTTP server in the same event loop."""

from collections.abc import Collection
from typing import Any

import grpc

from fusioncam.errors import FusionCamError
from fusioncam.runtime.service.grpc import health
from fusioncam.runtime.service.grpc.calls import CallFrame
from fusioncam.runtime.service.grpc.methods import SERVICE, Methods
from fusioncam.runtime.service.monitoring.metrics import Metrics
from fusioncam.runtime.service.service import Service
from fusioncam.runtime.service.settings import Settings
from fusioncam.runtime.service.side_server import SideServer

IDLE = 65  # seconds, after which a connection without calls is closed; clients connect again by themselves
PING = 60  # seconds between signs of life of a client that waits for an answer
SPARE = 100  # calls
PINGS = 10  # seconds that clients must let pass between two signs of life of their own


class GrpcServer(SideServer):
    """The gRPC server of one process.

    Args:
        address: HOST:PORT to listen at.
        settings: Limits, and the token.
        metrics: Counts.
        models: Names of the models.
        connections: The most connections.
        grace: Seconds in which begun calls end when it stops.
    """

    def __init__(
        self,
        address: str,
        settings: Settings,
        metrics: Metrics,
        models: Collection[str],
        connections: int,
        grace: float,
    ) -> None:
        self._address, self._settings, self._connections, self._grace = address, settings, connections, grace
        token = None if settings.token is None else settings.token.get_secret_value()
        self._frame, self._methods = CallFrame(metrics, models, token, settings.timeout), Methods()
        self._server: Any = None

    def open(self, service: Service) -> None:
        """Answer by a service from now on."""
        self._methods.service = service

    async def start(self) -> None:
        """Begin to listen.

        Raises:
            FusionCamError: The address cannot be bound to.
        """
        self._server = grpc.aio.server(options=self._options())
        self._server.add_generic_rpc_handlers((
            self._frame.handlers(SERVICE, self._methods.inference()),
            self._frame.handlers(health.SERVICE, self._methods.health()),
        ))  # fmt: skip
        try:
            self._server.add_insecure_port(self._address)
        except RuntimeError as error:
            raise FusionCamError(f"gRPC cannot listen at {self._address}; choose another --grpc-port") from error
        await self._server.start()

    async def stop(self) -> None:
        """Refuse new calls, and finish those that were begun."""
        if self._server is not None:
            self._methods.end()
            await self._server.stop(self._grace)

    def _options(self) -> list[tuple[str, Any]]:
        return [
            ("grpc.max_receive_message_length", self._settings.max_body),  # packed and unpacked
            ("grpc.max_send_message_length", -1),
            # Of one connection; further calls wait in the client. There is room for probes, and for calls to refuse.
            ("grpc.max_concurrent_streams", 2 * self._settings.concurrency + SPARE),
            ("grpc.max_allowed_incoming_connections", self._connections),
            ("grpc.so_reuseport", 1),  # with other workers, and with the socket that keeps the port for them
            ("grpc.max_connection_idle_ms", 1000 * IDLE),
            ("grpc.keepalive_time_ms", 1000 * PING),
            ("grpc.http2.min_ping_interval_without_data_ms", 1000 * PINGS),
        ]
