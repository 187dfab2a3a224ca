"""A model of the service: its name, its batcher, and the properties that requests need."""

from dataclasses import dataclass
from functools import cached_property

from fusioncam.manifest import Manifest
from fusioncam.runtime.methods import EVERY, GRADIENT, needs_gradient
from fusioncam.runtime.service.batching.batcher import Batcher

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

    @property
    def cheapest(self) -> str:
        """Return a method that costs least, for requests that ask for no map."""
        return next(m for m in (*GRADIENT, "recipro_cam", *self.methods) if m in self.methods)
