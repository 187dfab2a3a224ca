"""A model as the service has it: what explains it, and what its jobs are handed to."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

from fusioncam.runtime.explainer import Explainer
from fusioncam.runtime.explanation import Explanation
from fusioncam.runtime.methods import EVERY, GRADIENT, needs_gradient
from fusioncam.runtime.service.batching.job import Job

VERSION = "1"


class BatcherProtocol(Protocol):
    """Takes jobs, as a `Batcher` does."""

    @property
    def explainer(self) -> Explainer:
        """What explains."""

    @property
    def ready(self) -> bool:
        """Whether it takes jobs, if there is room."""

    def explain_all(self, jobs: Sequence[Job]) -> Sequence[asyncio.Task[Explanation]]:
        """Let in all jobs of a request or none; cancelling a task stops its job.

        Raises:
            BusyError, UsageError: None is let in.
            BusyError, DeadlineError, ImageError, UsageError, FusionCamError: A job is not done; in its task.
        """

    async def close(self) -> None:
        """Refuse new jobs, finish those that were begun."""


@dataclass(frozen=True, eq=False)
class ServedModel:
    """A model that is served.

    Attributes:
        batcher: Does the work.
    """

    batcher: BatcherProtocol

    @property
    def explainer(self) -> Explainer:
        """Knows the bundle."""
        return self.batcher.explainer

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of the model's input."""
        return self.explainer.manifest.preprocessing.size

    @cached_property
    def methods(self) -> tuple[str, ...]:
        """Names of the methods that can be made of the bundle."""
        manifest = self.explainer.manifest
        able = (m for m in EVERY if manifest.gradient or not needs_gradient(m))
        return tuple(m for m in able if manifest.has_head or m != "recipro_cam")

    @property
    def cheapest(self) -> str:
        """A method that costs least, for who asks for no map."""
        order = (*GRADIENT, "recipro_cam", *self.methods)
        return next(m for m in order if m in self.methods)
