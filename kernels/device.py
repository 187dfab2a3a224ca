"""What the kernels need of a GPU, and the two libraries that provide it."""

import math
import operator
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from importlib import import_module
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from fusioncam.errors import DeviceError, FusionCamError, UsageError, first_line
from fusioncam.kernels.arrays import Array

# In order of preference; the modules import nothing of a GPU before a device is opened.
LAUNCHERS = {"pycuda": "fusioncam.kernels.with_pycuda", "cuda-core": "fusioncam.kernels.with_cuda_core"}
INSTALL = 'pip install "fusioncam[gpu]" brings cuda-core; pip install pycuda builds PyCUDA, and needs the CUDA toolkit'

Grid = tuple[int, int, int]


class Device(Protocol):
    """A GPU as a launcher sees it. Streams and events are opaque handles; 0 is never one of them.

    All calls but `entered` need the context to be current on the calling thread.

    Attributes:
        name: As the driver calls it.
        index: Its number.
        memory: What onnxruntime calls its memory: `cuda`, or `cpu` where the kernels run on the host in tests.
    """

    name: str
    index: int
    memory: str

    def entered(self) -> AbstractContextManager[None]:
        """The device's primary context, which onnxruntime uses too, current on this thread for a while."""

    def allocate(self, nbytes: int) -> "Memory":
        """Memory that is freed with the last reference to it.

        Raises:
            DeviceError: There is not that much.
        """

    def pinned(self, shape: Sequence[int], dtype: npt.DTypeLike) -> Array:
        """A host array that can be copied from and to without waiting."""

    def stream(self) -> int:
        """A new stream that does not wait for the default stream; lives as long as the device object."""

    def event(self) -> int:
        """A new event; lives as long as the device object."""

    def record(self, event: int, stream: int) -> None:
        """`event` happens when all work given to `stream` so far is done."""

    def wait(self, stream: int, event: int) -> None:
        """Work given to `stream` from now on begins after `event`."""

    def synchronize(self, stream: int) -> None:
        """Block until all work of `stream` is done.

        Raises:
            DeviceError: Some of it failed.
        """

    def elapsed(self, start: int, end: int) -> float:
        """Milliseconds between two events that have happened."""

    def upload(self, source: Array, pointer: int, stream: int) -> None:
        """Copy a contiguous host array to the device; `source` must stay as it is until the stream got there."""

    def download(self, pointer: int, target: Array, stream: int) -> None:
        """Copy from the device into a contiguous host array, which holds the data once the stream got there."""

    def launch(self, kernel: str, grid: Grid, block: int, arguments: Sequence[np.generic], stream: int) -> None:
        """Start a kernel of the project's binary; pointers come as `np.uintp`."""


class Memory(Protocol):
    """A piece of device memory; freed with the last reference."""

    pointer: int
    nbytes: int


@dataclass(frozen=True)
class DeviceArray:
    """A C-contiguous array in device memory."""

    owner: Memory
    pointer: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def nbytes(self) -> int:
        """Its size in bytes."""
        return byte_count(self.shape, self.dtype)

    def rows(self, start: int, stop: int) -> "DeviceArray":
        """Entries start..stop-1 along the first axis, in the same memory.

        Raises:
            ValueError: There are no such rows.
        """
        start, stop = lengths((start, stop))
        if not start <= stop <= self.shape[0]:
            raise ValueError(f"rows {start}..{stop} of {self.shape[0]}")
        step = self.nbytes // self.shape[0] if self.shape[0] else 0
        return replace(self, pointer=self.pointer + start * step, shape=(stop - start, *self.shape[1:]))

    def view(self, *shape: int) -> "DeviceArray":
        """The same memory in another shape of as many elements.

        Raises:
            ValueError: They are not as many.
        """
        whole = lengths(shape)
        if math.prod(whole) != math.prod(self.shape):
            raise ValueError(f"{shape} is not as large as {self.shape}")
        return replace(self, shape=whole)


def lengths(shape: Sequence[int]) -> tuple[int, ...]:
    """A shape, or places along an axis, in Python's numbers, which never overflow.

    Raises:
        ValueError: They are not whole numbers from 0 up.
    """
    try:
        whole = tuple(map(operator.index, shape))
    except TypeError:
        whole = (-1,)
    if min(whole, default=0) < 0:
        raise ValueError(f"{shape} must be whole numbers, 0 or more")
    return whole


def byte_count(shape: tuple[int, ...], dtype: np.dtype[Any]) -> int:
    """The size of an array."""
    return math.prod(shape) * dtype.itemsize


def empty(device: Device, shape: Sequence[int], dtype: npt.DTypeLike) -> DeviceArray:
    """A new array; what it holds is undefined.

    Raises:
        ValueError: It is no shape.
        DeviceError: There is not enough device memory.
    """
    kind, whole = np.dtype(dtype), lengths(shape)
    owner = device.allocate(max(byte_count(whole, kind), 1))
    return DeviceArray(owner, owner.pointer, whole, kind)


def open_device(index: int = 0, launcher: str | None = None) -> Device:
    """A GPU, through PyCUDA where that is installed, else through cuda-core.

    Args:
        index: Its number.
        launcher: `pycuda` or `cuda-core`, to have that one and no other.

    Raises:
        UsageError: There is no such launcher, or the number is none.
        DeviceError: Neither library is installed, there is no driver or no such GPU, or it cannot run the kernels.
    """
    number = _number(index)
    if launcher not in (None, *LAUNCHERS):
        raise UsageError(f"there is no launcher {launcher!r}; choose {' or '.join(LAUNCHERS)}")
    missing = []
    for name in LAUNCHERS if launcher is None else (launcher,):
        try:
            device: Device = import_module(LAUNCHERS[name]).open_device(number)
        except ImportError as error:
            missing.append(f"no {name} ({first_line(error)})")
        else:
            return device
    raise DeviceError(f"nothing runs kernels on a GPU here: {', '.join(missing)}; {INSTALL}")


def _number(index: int) -> int:
    try:
        return operator.index(None if isinstance(index, bool) else index)  # type: ignore[arg-type]
    except TypeError as error:
        kind = type(index).__name__
        raise UsageError(f"the number of a GPU cannot be a {kind}; give 0 for the first, 1 for the second") from error


def available(index: int = 0) -> tuple[bool, str]:
    """Whether `open_device` opens that GPU, with its name, or why it does not. Raises nothing but KeyboardInterrupt."""
    try:
        return True, open_device(index).name
    except KeyboardInterrupt:
        raise
    except FusionCamError as error:
        return False, str(error)
    except BaseException as error:  # a broken installation may do anything
        return False, f"the GPU cannot be opened: {type(error).__name__}: {first_line(error)}; {INSTALL}"
