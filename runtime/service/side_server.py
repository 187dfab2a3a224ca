"""The interface of a server of another protocol, beside the HTTP server in its event loop."""

from fusioncam.runtime.service.service import Service


class SideServer:
    """A server that does nothing; to be derived from."""

    def open(self, service: Service) -> None:
        """Answer by a service from now on. Any thread may call this."""

    async def start(self) -> None:
        """Begin to listen; without a service, clients are told that the models are being loaded.

        Raises:
            FusionCamError: The address cannot be bound to.
        """

    async def stop(self) -> None:
        """Refuse new requests, and finish those that were begun. May be called more than once."""
