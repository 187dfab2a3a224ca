"""A GPU as the kernels need it, its arrays, and the choice between the two libraries that start kernels."""

import math
import operator
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, replace
from decimal import Decimal
from importlib import import_module
from itertools import count
from typing import Any

import numpy as np
import numpy.typing as npt

from fusioncam.errors import DeviceError, FusionCamError, UsageError, first_line
from fusioncam.kernels.arrays import Array
from fusioncam.kernels.captures import CAPTURES
from fusioncam.kernels.driver import Owned, byte_count, contiguous, host_array, lengths, reported

# In order of preference; the modules import nothing of a GPU before a device is opened.
LAUNCHERS = {"pycuda": "fusioncam.kernels.with_pycuda", "cuda-core": "fusioncam.kernels.with_cuda_core"}
INSTALL = 'pip install "fusioncam[gpu]" brings cuda-core; pip install pycuda builds PyCUDA, and needs the CUDA toolkit'

Grid = tuple[int, int, int]


class Device:
    """A GPU through a launcher, which defines the methods with an underscore.

    Streams and events are opaque handles; 0 is never one of them. All calls but `entered` need the context to be
    current on the calling thread.

    Args:
        name: The driver's name of the device.
        index: The number of the device.
        enter: Makes the device's primary context, which onnxruntime uses too, current for a while.

    Attributes:
        memory: onnxruntime's name of its memory: `cuda`, or `cpu` where the kernels run on the host in tests.
    """

    memory = "cuda"

    def __init__(self, name: str, index: int, enter: Callable[[], AbstractContextManager[None]]) -> None:
        self.name, self.index, self._enter = name, index, enter
        self._library: list[Any] = []  # the loaded kernels
        self._kernels: dict[str, Any] = {}
        self._streams: dict[int, Any] = {}
        self._events: dict[int, Any] = {}
        self._numbers = count(1)
        weakref.finalize(self, _clear, enter, self._kernels, self._events, self._streams, self._library)

    def entered(self) -> AbstractContextManager[None]:
        """Return a context manager within which the primary context is current on this thread."""
        return self._enter()

    def allocate(self, nbytes: int) -> Owned:
        """Return memory that is freed with the last reference to it.

        Raises:
            DeviceError: There is not that much.
        """
        with _call(f"give {Decimal(nbytes) / 10**6:.1f} MB of memory"):
            return self._owned(nbytes, *self._allocate(nbytes))

    def pinned(self, shape: Sequence[int], dtype: npt.DTypeLike) -> Array:
        """Return a host array that can be copied from and to without waiting."""

        def allocate(nbytes: int) -> Owned:
            with _call(f"give {Decimal(nbytes) / 10**6:.1f} MB of pinned host memory"):
                return self._owned(nbytes, *self._allocate_pinned(nbytes))

        return host_array(shape, dtype, allocate)

    def _owned(self, nbytes: int, pointer: int, release: Callable[[], object]) -> Owned:
        enter = self._enter

        def free() -> None:
            with suppress(Exception), enter():  # a GPU that failed takes nothing back
                release()

        return Owned(pointer, nbytes, lambda: CAPTURES.free(free))

    def stream(self) -> int:
        """Return a new stream that does not wait for the default stream; it lives as long as the device object."""
        with _call("make a stream"):
            stream = self._new_stream()
        self._streams[int(stream.handle)] = stream
        return int(stream.handle)

    def event(self) -> int:
        """Return a new event for `wait` and `wait_until`; it lives as long as the device object."""
        return self._event(timed=False)

    def timed_event(self) -> int:
        """Return a new event for `elapsed`; it costs more to record."""
        return self._event(timed=True)

    def _event(self, timed: bool) -> int:
        number = next(self._numbers)
        with _call("make an event"):
            self._events[number] = self._new_event(timed)
        return number

    def record(self, event: int, stream: int) -> None:
        """Let `event` happen when all work given to `stream` so far is done."""
        with _call("record an event"):
            self._record(event, stream)

    def wait(self, stream: int, event: int) -> None:
        """Let work given to `stream` from now on begin after `event`."""
        with _call("wait for an event"):
            self._wait(stream, event)

    def synchronize(self, stream: int) -> None:
        """Block until all work of `stream` is done.

        Raises:
            DeviceError: Some of it failed.
        """
        with _call("finish its work"):
            self._synchronize(stream)

    def wait_until(self, event: int) -> None:
        """Block until an event has happened, without keeping a CPU core busy.

        Raises:
            DeviceError: Some work before it failed.
        """
        with _call("finish its work"):
            self._wait_until(event)

    def elapsed(self, start: int, end: int) -> float:
        """Return the milliseconds between two timed events that have happened."""
        with _call("tell the time"):
            return float(self._elapsed(start, end))

    def upload(self, source: Array, pointer: int, stream: int) -> None:
        """Copy a contiguous host array to the device; `source` must stay as it is until the stream got there."""
        host = contiguous(source)
        with _call("take a copy"):
            self._upload(host, pointer, stream)

    def download(self, pointer: int, target: Array, stream: int) -> None:
        """Copy from the device into a contiguous host array, which holds the data once the stream got there."""
        host = contiguous(target)
        with _call("give a copy"):
            self._download(pointer, host, stream)

    def launch(self, kernel: str, grid: Grid, block: int, arguments: Sequence[np.generic], stream: int) -> None:
        """Start a kernel of the project's binary; pointers come as `np.uintp`."""
        with _call(f"start {kernel}"):
            if kernel not in self._kernels:
                self._kernels[kernel] = self._kernel(kernel)
            self._launch(kernel, grid, block, arguments, stream)

    def _stream(self, handle: int) -> Any:
        if handle not in self._streams:
            self._streams[handle] = self._foreign_stream(handle)
        return self._streams[handle]

    # What a launcher defines. Memory is a pointer and a function that frees it. Handles go in, not what they stand for:
    # tracebacks keep arguments, and streams and events must go with the device object.
    def _allocate(self, nbytes: int) -> Any: ...
    def _allocate_pinned(self, nbytes: int) -> Any: ...
    def _new_stream(self) -> Any: ...
    def _foreign_stream(self, handle: int) -> Any: ...
    def _new_event(self, timed: bool) -> Any: ...
    def _record(self, event: int, stream: int) -> None: ...
    def _wait(self, stream: int, event: int) -> None: ...
    def _synchronize(self, stream: int) -> None: ...
    def _wait_until(self, event: int) -> None: ...
    def _elapsed(self, start: int, end: int) -> Any: ...
    def _upload(self, source: Array, pointer: int, stream: int) -> None: ...
    def _download(self, pointer: int, target: Array, stream: int) -> None: ...
    def _kernel(self, name: str) -> Any: ...
    def _launch(self, kernel: str, grid: Grid, block: int, arguments: Sequence[np.generic], stream: int) -> None: ...


@contextmanager
def _call(doing: str) -> Iterator[None]:
    """Call the driver while no CUDA graph is captured; raise its errors as `DeviceError`."""
    with CAPTURES.shared(), reported(doing):
        yield


def _clear(enter: Callable[[], AbstractContextManager[None]], *holders: Any) -> None:
    """Drop what must go within the context."""

    def clear() -> None:
        with suppress(DeviceError), enter():
            for holder in holders:
                holder.clear()

    CAPTURES.free(clear)


@dataclass(frozen=True)
class DeviceArray:
    """A C-contiguous array in device memory."""

    owner: Owned
    pointer: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def nbytes(self) -> int:
        """Return the size in bytes."""
        return byte_count(self.shape, self.dtype)

    def rows(self, start: int, stop: int) -> "DeviceArray":
        """Return entries start..stop-1 along the first axis, in the same memory.

        Raises:
            ValueError: There are no such rows.
        """
        start, stop = lengths((start, stop))
        if not start <= stop <= self.shape[0]:
            raise ValueError(f"rows {start}..{stop} of {self.shape[0]}")
        step = self.nbytes // self.shape[0] if self.shape[0] else 0
        return replace(self, pointer=self.pointer + start * step, shape=(stop - start, *self.shape[1:]))

    def view(self, *shape: int) -> "DeviceArray":
        """Return the same memory in another shape with the same number of elements.

        Raises:
            ValueError: The number differs.
        """
        whole = lengths(shape)
        if math.prod(whole) != math.prod(self.shape):
            raise ValueError(f"{shape} is not as large as {self.shape}")
        return replace(self, shape=whole)


def empty(device: Device, shape: Sequence[int], dtype: npt.DTypeLike) -> DeviceArray:
    """Return a new array of undefined content.

    Raises:
        ValueError: It is no shape.
        DeviceError: There is not enough device memory.
    """
    kind, whole = np.dtype(dtype), lengths(shape)
    owner = device.allocate(max(byte_count(whole, kind), 1))
    return DeviceArray(owner, owner.pointer, whole, kind)


def open_device(index: int = 0, launcher: str | None = None) -> Device:
    """Return a GPU, through PyCUDA where that is installed, else through cuda-core.

    Args:
        index: Its number.
        launcher: `pycuda` or `cuda-core`, to use only that one.

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
            with CAPTURES.shared(long=True):  # it loads the kernels, or compiles them
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
    """Return whether `open_device` opens that GPU, and its name or the reason; raise nothing but KeyboardInterrupt."""
    try:
        return True, open_device(index).name
    except KeyboardInterrupt:
        raise
    except FusionCamError as error:
        return False, str(error)
    except BaseException as error:  # a broken installation may do anything
        return False, f"the GPU cannot be opened: {type(error).__name__}: {first_line(error)}; {INSTALL}"
