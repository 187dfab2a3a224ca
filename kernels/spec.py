"""The declaration of a kernel, from which tests, benchmarks and the checks before a launch are made."""

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from fusioncam.kernels.arrays import Array
from fusioncam.kernels.device import Device, DeviceArray, Grid

Sizes = Mapping[str, int]

ARRAYS = DeviceArray, np.ndarray
INT_MAX = 2**31 - 1
# How far from zero a scalar of each C type may be.
MOST: dict[type[np.generic], float] = {
    np.int32: INT_MAX,
    np.float32: float(np.finfo(np.float32).max),
    np.float64: float(np.finfo(np.float64).max),
}


@dataclass(frozen=True)
class Parameter:
    """An array that a kernel takes.

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

    @cached_property
    def kind(self) -> np.dtype[Any]:
        """Return the type as a NumPy dtype."""
        return np.dtype(self.dtype)


@dataclass(frozen=True)
class Spec:
    """The declaration of a CUDA kernel.

    In C it takes its arrays as pointers, then the sizes as `int`, then the scalars, each in the order given here.

    Attributes:
        name: Its symbol in the binary.
        arrays: Its arrays by name.
        sizes: The sizes that it takes.
        grid: Blocks (x, y, z), given the sizes.
        block: Threads per block.
        reference: The definition in NumPy: takes every array that is not `out`, and the scalars, by name; returns
            the `out` arrays in order, in float64 where the kernel rounds.
        tolerance: Largest absolute difference from the reference; 0 where they must be equal.
        scalars: C type of further parameters by name.
        rules: What else must be so of sizes and scalars for the kernel to stay within its arrays: in words, and whether
            it is, given both by name.
    """

    name: str
    arrays: Mapping[str, Parameter]
    sizes: tuple[str, ...]
    grid: Callable[[Sizes], Grid]
    block: int
    reference: Callable[..., tuple[Array, ...]]
    tolerance: float
    scalars: Mapping[str, type[np.generic]] = field(default_factory=dict)
    rules: Mapping[str, Callable[[Mapping[str, Any]], bool]] = field(default_factory=dict)

    @property
    def outputs(self) -> dict[str, Parameter]:
        """Return the arrays that the kernel writes."""
        return {name: p for name, p in self.arrays.items() if p.out}

    @cached_property
    def axes(self) -> frozenset[str]:
        """Return the names of all sizes: those that the kernel takes, and those of its arrays."""
        named = (axis for p in self.arrays.values() for axis in p.shape if isinstance(axis, str))
        return frozenset((*self.sizes, *named))

    def bind(self, arguments: Mapping[str, Any]) -> dict[str, int]:
        """Return the sizes on which the arrays (of the device or of NumPy) in `arguments` agree; arrays may be missing.

        Raises:
            ValueError: An argument is unknown, a size is no positive number, or an array has another type or number of
                axes, is empty, or disagrees about a size.
        """
        sizes: dict[str, int] = {}
        for name, value in arguments.items():
            if name in self.axes:
                sizes[name] = self._size(name, value)
            elif name not in self.arrays and name not in self.scalars:
                takes = ", ".join((*self.arrays, *self.scalars, *sorted(self.axes)))
                raise ValueError(f"{self.name}: there is no {name}; it takes {takes}")
        for name, parameter in self.arrays.items():
            if name in arguments:
                self._fit(name, parameter, arguments[name], sizes)
        return sizes

    def _size(self, name: str, value: Any) -> int:
        try:
            size = operator.index(value)
        except TypeError:
            size = 0
        if not 1 <= size <= INT_MAX:
            raise ValueError(f"{self.name}: {name} is {value!r}, not a whole number from 1 to 2**31 - 1")
        return size

    def _fit(self, name: str, parameter: Parameter, array: Any, sizes: dict[str, int]) -> None:
        """Compare an array with the sizes known so far, and add its own."""
        if not isinstance(array, ARRAYS):
            raise ValueError(f"{self.name}: {name} is a {type(array).__name__}, not an array")
        if array.dtype != parameter.kind or len(array.shape) != len(parameter.shape):
            axes = ", ".join(map(str, parameter.shape))
            raise ValueError(f"{self.name}: {name} is {array.dtype}{array.shape}, not {parameter.kind}({axes})")
        for axis, length in zip(parameter.shape, array.shape, strict=True):
            expected = sizes.setdefault(axis, length) if isinstance(axis, str) else axis
            if length != expected or length < 1:
                raise ValueError(f"{self.name}: {name} is {array.shape}, but {axis} is {expected}, and at least 1")

    def shape(self, name: str, sizes: Sizes) -> tuple[int, ...]:
        """Return the shape of one of the arrays."""
        return tuple(sizes[axis] if isinstance(axis, str) else axis for axis in self.arrays[name].shape)

    def __call__(self, device: Device, stream: int, **arguments: Any) -> None:
        """Start the kernel on device arrays.

        Raises:
            ValueError: The arguments do not fit the spec.
            DeviceError: The kernel cannot be started.
        """
        sizes = self.bind(arguments)
        values: Sequence[np.generic] = [
            *[self._pointer(name, arguments.get(name)) for name in self.arrays],
            *[np.int32(self._size(name, sizes.get(name))) for name in self.sizes],
            *[self._scalar(name, kind, arguments.get(name)) for name, kind in self.scalars.items()],
        ]
        for text, holds in self.rules.items():
            if not holds({**arguments, **sizes}):
                numbers = {**sizes, **{name: arguments[name] for name in self.scalars}}
                raise ValueError(f"{self.name}: {text}, not {', '.join(f'{k} = {v}' for k, v in numbers.items())}")
        device.launch(self.name, self.grid(sizes), self.block, values, stream)

    def _pointer(self, name: str, array: Any) -> np.uintp:
        if not isinstance(array, DeviceArray):
            raise ValueError(f"{self.name}: {name} is a {type(array).__name__}, not an array of the device's")
        return np.uintp(array.pointer)

    def _scalar(self, name: str, kind: type[np.generic], value: Any) -> np.generic:
        try:
            # Unlike float(), fsum() takes no text.
            number = operator.index(value) if kind is np.int32 else math.fsum((value,))
        except (TypeError, OverflowError):
            number = math.nan
        if abs(number) <= MOST[kind]:
            return kind(number)
        raise ValueError(f"{self.name}: {name} is {value!r}, not of type {kind.__name__}")


def blocks(count: int, size: int) -> int:
    """Return how many blocks of `size` hold `count` items."""
    return -(-count // size)
