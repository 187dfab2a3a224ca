"""A model of the service: its name, its batcher, and the properties that requests need."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

from fusioncam.manifest import Manifest
from fusioncam.runtime.methods import EVERY, GRADIENT, needs_gradient
from fusioncam.runtime.service.batching.batcher import Batcher
from fusioncam.runtime.service.explain_if import Condition, parse_condition

VERSION = "1"


@dataclass(frozen=True, eq=False)
class ServedModel:
    """A model of the service.

    Attributes:
        name: Its name in addresses.
        batcher: Explains its pictures.
    """

    name: str
    batcher: Batcher

    @property
    def manifest(self) -> Manifest:
        """Return the manifest of the bundle."""
        return self.batcher.pipeline.manifest

    @property
    def size(self) -> tuple[int, int]:
        """Return (H, W) of the input."""
        return self.manifest.preprocessing.size

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

    @property
    def cheapest(self) -> str:
        """Return a method that costs least, for requests that ask for no map."""
        return next(m for m in (*GRADIENT, "recipro_cam", *self.methods) if m in self.methods)
