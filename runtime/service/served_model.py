"""A model of the service: its name, its batcher, and the properties that requests need."""

import asyncio
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any

from fusioncam.errors import BusyError
from fusioncam.free_size import PHOTO_PIXELS
from fusioncam.manifest import Manifest
from fusioncam.runtime.methods import EVERY, GRADIENT, needs_gradient
from fusioncam.runtime.service.batching.batcher import Batcher
from fusioncam.runtime.service.errors import RETRY_AFTER
from fusioncam.runtime.service.explain_if import Condition, parse_condition

ONLY = "1"  # version of a model that has no others


class Usage:
    """A count of the requests that use a model."""

    def __init__(self) -> None:
        self._requests, self._changed = 0, asyncio.Event()

    @contextmanager
    def one(self) -> Iterator[None]:
        """Count one request as long as it lasts."""
        self._requests += 1
        try:
            yield
        finally:
            self._requests -= 1
            self._changed.set()

    async def end(self) -> None:
        """Wait until there is no request."""
        while self._requests:
            self._changed.clear()
            await self._changed.wait()


@dataclass(frozen=True, eq=False)
class ServedModel:
    """A model of the service, in one version.

    Attributes:
        name: Its name in addresses.
        batcher: Explains its pictures.
        version: A number.
        usage: The requests that use it.
    """

    name: str
    batcher: Batcher
    version: str = ONLY
    usage: Usage = field(default_factory=Usage)

    @property
    def manifest(self) -> Manifest:
        """Return the manifest of the bundle."""
        return self.batcher.pipeline.manifest

    @property
    def size(self) -> tuple[int, ...]:
        """Return (H, W) of the input."""
        return self.manifest.preprocessing.size

    @property
    def most_pixels(self) -> int:
        """Return the most pixels of an input, of any size that requests may ask for."""
        return max(math.prod(self.size), PHOTO_PIXELS if self.manifest.free_size else 0)

    @cached_property
    def methods(self) -> tuple[str, ...]:
        """Return the names of the methods that the bundle has all parts for."""
        methods = (m for m in EVERY if self.manifest.gradient or not needs_gradient(m))
        return tuple(m for m in methods if self.manifest.has_head or m != "recipro_cam")

    def condition(self, text: Any) -> Condition:
        """Return the condition of this text for the model's classes; raise UsageError where it is none."""
        return self._conditions(parse_condition(text))

    @cached_property
    def _conditions(self) -> Callable[[Condition], Condition]:
        return lru_cache(64)(lambda condition: condition.bound(self.manifest))  # names of classes take time to find

    def check_ready(self) -> None:
        """Raise BusyError where the model takes no requests."""
        if not self.batcher.ready:
            raise BusyError(f"model {self.name!r} takes no requests: it is shutting down, or has failed", RETRY_AFTER)

    @property
    def cheapest(self) -> str:
        """Return a method that costs least, for requests that ask for no map."""
        return next(m for m in (*GRADIENT, "recipro_cam", *self.methods) if m in self.methods)
