"""The service as all of its protocols share it: models, settings, metrics, and the runner of requests."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Self

from starlette.exceptions import HTTPException

from fusioncam.errors import UsageError
from fusioncam.runtime.arguments import quote
from fusioncam.runtime.service.batching.batcher import Batcher
from fusioncam.runtime.service.monitoring.metrics import Metrics
from fusioncam.runtime.service.repository.model_repository import Change, ModelRepository
from fusioncam.runtime.service.request_runner import RequestRunner
from fusioncam.runtime.service.settings import Settings

NO_TOKEN = (
    "models are loaded and unloaded for clients with a token only: start the service with --token-file; without one, "
    "the signal SIGHUP has it load what is new"
)


class Service:
    """The service in one process, without any protocol.

    Args:
        repository: The models.
        settings: Limits, and the token.
        metrics: The observer of the batchers, so that all metrics are in one place.
        change: Makes a change of the models, in all processes; by default in this one, which is alone.

    Attributes:
        runner: Runs requests for explanations.
        token: The token that requests must carry, or None.
    """

    def __init__(
        self,
        repository: ModelRepository,
        settings: Settings | None = None,
        metrics: Metrics | None = None,
        change: Callable[[Change], Awaitable[None]] | None = None,
    ) -> None:
        self.repository, self.settings, self.metrics = repository, settings or Settings(), metrics or Metrics()
        self.runner = RequestRunner(self.settings, self.metrics)
        self.change = change or repository.make
        self._making = set[asyncio.Future[None]]()
        token = self.settings.token
        self.token = None if token is None else token.get_secret_value()

    @classmethod
    def of(
        cls, batchers: Mapping[str, Batcher], settings: Settings | None = None, metrics: Metrics | None = None
    ) -> Self:
        """Return the service of models that are open, by name."""
        return cls(ModelRepository.of(batchers), settings, metrics)

    async def change_for_client(self, change: Change, parameters: Mapping[str, Any]) -> None:
        """Make a change of the models that a client asks for.

        Args:
            change: The change.
            parameters: Those of the request.

        Raises:
            HTTPException: 403, as the service has no token: anybody might ask.
            UsageError: The client sends a configuration or files.
            FusionCamError: As of `ModelRepository.make`.
        """
        if self.token is None:
            raise HTTPException(403, NO_TOKEN)
        for name in parameters:
            if name != "unload_dependents":
                raise UsageError(
                    f"a client cannot give {quote(name)}: put the bundle on the service's disk, and load it"
                )
        making = asyncio.ensure_future(self.change(change))
        self._making.add(making)
        making.add_done_callback(self._making.discard)
        await asyncio.shield(making)  # a client that leaves must not leave half a change behind

    async def close(self) -> None:
        """Finish the admitted jobs, and close the models."""
        await self.repository.close()
        self.runner.close()
