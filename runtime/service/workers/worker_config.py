"""The configuration of a process of the service."""

import signal
from dataclasses import dataclass
from pathlib import Path

from fusioncam.runtime.service.batching.batcher import MAX_BATCH, QUEUE
from fusioncam.runtime.service.settings import Settings

END_SIGNALS = (signal.SIGINT, signal.SIGTERM)
GRACE = 5  # seconds beyond the time of a request, to finish begun requests when the service ends


@dataclass(frozen=True)
class WorkerConfig:
    """The configuration of one process. Can be sent to other processes.

    Attributes:
        models: Bundles by the names of the models.
        settings: See `Settings`.
        providers: See `Explainer`.
        chunk: See `Explainer`.
        threads: See `Explainer`.
        max_batch: See `Batcher`.
        queue: See `Batcher`.
        log_level: Of Python's logging.
        allow_cpu: See `Explainer`.
        grpc_address: HOST:PORT of the gRPC server, or None for none.
        absent: Names of models that are not loaded.
    """

    models: dict[str, Path]
    settings: Settings
    providers: tuple[str, ...] = ("cpu",)
    chunk: int | None = None
    threads: int | None = None
    max_batch: int = MAX_BATCH
    queue: int = QUEUE
    log_level: str = "info"
    allow_cpu: bool = False
    grpc_address: str | None = None
    absent: frozenset[str] = frozenset()

    @property
    def grace(self) -> float:
        """Return the seconds in which begun requests end."""
        return self.settings.timeout + GRACE
