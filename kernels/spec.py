"""One declared spec per kernel: tests, benchmarks and the checks before a launch are all made from it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from fusioncam.kernels.device import Array, Device, DeviceArray, Grid

Sizes = Mapping[str, int]
Arguments = dict[str, Any]


@dataclass(frozen=True)
class Parameter:
    """An array a kernel takes.

    Attributes:
        dtype: Type of its elements.
        shape: One entry per axis: a number, or the name of a size that all arrays of a call must agree on.
        out: Whether the kernel writes it: all of it, unless `kept`.
        kept: Whether the kernel changes only part of what is there; the reference then takes it, too.
    """

    dtype: npt.DTypeLike
    shape: tuple[str | int, ...]
    out: bool = False
    kept: bool = False


@dataclass(frozen=True)
class Spec:
    """A CUDA kernel.

    In C it takes its arrays as pointers, then the sizes as `int`, then the scalars, each in the order given here.

    Attributes:
        name: Its symbol in the binary.
        arrays: Its arrays by name.
        sizes: The sizes it is told.
        grid: Blocks (x, y, z), given the sizes.
        block: Threads per block.
        reference: The definition in NumPy: takes every array that is not `out`, and the scalars, by name; returns
            the `out` arrays in order, in float64 where the kernel rounds.
        sample: Yields inputs for one call after another, from easy to nasty; sizes of the outputs that the inputs do
            not fix come along by name.
        tolerance: Largest absolute difference from the reference; 0 where they must be equal.
        scalars: C type of further parameters by name.
    """

    name: str
    arrays: Mapping[str, Parameter]
    sizes: tuple[str, ...]
    grid: Callable[[Sizes], Grid]
    block: int
    reference: Callable[..., tuple[Array, ...]]
    sample: Callable[[np.random.Generator], Iterator[Arguments]]
    tolerance: float
    scalars: Mapping[str, type[np.generic]] = field(default_factory=dict)

    @property
    def outputs(self) -> dict[str, Parameter]:
        """The arrays it writes."""
        return {name: p for name, p in self.arrays.items() if p.out}

    def bind(self, arguments: Mapping[str, Any]) -> dict[str, int]:
        """The sizes that the arrays (anything with `shape` and `dtype`) among `arguments` agree on.

        Raises:
            ValueError: An array has another type or number of axes, is empty, or disagrees about a size.
        """
        sizes = {name: int(v) for name, v in arguments.items() if name not in self.arrays and name not in self.scalars}
        for name, parameter in self.arrays.items():
            if name not in arguments:
                continue
            given = arguments[name]
            if given.dtype != np.dtype(parameter.dtype) or len(given.shape) != len(parameter.shape):
                raise ValueError(f"{self.name}: {name} is {given.dtype}{given.shape}, not {parameter}")
            for axis, length in zip(parameter.shape, given.shape, strict=True):
                wanted = sizes.setdefault(axis, length) if isinstance(axis, str) else axis
                if length != wanted or length < 1:
                    raise ValueError(f"{self.name}: {name} is {given.shape}, but {axis} is {wanted}")
        return sizes

    def shape(self, name: str, sizes: Sizes) -> tuple[int, ...]:
        """The shape of one of its arrays."""
        return tuple(sizes[axis] if isinstance(axis, str) else axis for axis in self.arrays[name].shape)

    def __call__(self, device: Device, stream: int, **arguments: Any) -> None:
        """Start the kernel on device arrays.

        Raises:
            ValueError: The arrays do not fit the spec.
            DeviceError: The kernel cannot be started.
        """
        sizes = self.bind(arguments)
        values: Sequence[np.generic] = [
            *(_pointer(arguments[name]) for name in self.arrays),
            *(np.int32(sizes[name]) for name in self.sizes),
            *(kind(arguments[name]) for name, kind in self.scalars.items()),
        ]
        device.launch(self.name, self.grid(sizes), self.block, values, stream)


def _pointer(array: DeviceArray) -> np.uintp:
    return np.uintp(array.pointer)


def blocks(count: int, size: int) -> int:
    """Blocks of `size` that `count` items need."""
    return -(-count // size)
