"""What a process of the service is told to do."""

import signal
from dataclasses import dataclass
from pathlib import Path

from fusioncam.runtime.service.batching.batcher import MAX_BATCH, QUEUE
from fusioncam.runtime.service.settings import Settings

ENDING = (signal.SIGINT, signal.SIGTERM)
GRACE = 5  # seconds beyond the time of a request, for what was begun when the service is told to end


@dataclass(frozen=True)
class WorkerConfig:
    """What a process of the service does. Can be sent to other processes.

    Attributes:
        models: Bundles by the names of the models.
        settings: See `Settings`.
        providers: See `Explainer`.
        chunk: See `Explainer`.
        threads: See `Explainer`.
        max_batch: See `Batcher`.
        queue: See `Batcher`.
        log_level: Of Python's logging.
    """

    models: dict[str, Path]
    settings: Settings
    providers: tuple[str, ...] = ("cpu",)
    chunk: int | None = None
    threads: int | None = None
    max_batch: int = MAX_BATCH
    queue: int = QUEUE
    log_level: str = "info"

    @property
    def grace(self) -> float:
        """Seconds after which what was begun is done."""
        return self.settings.timeout + GRACE
