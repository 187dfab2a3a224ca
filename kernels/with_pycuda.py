"""The launcher through PyCUDA."""

import warnings
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from itertools import count
from typing import Any

import numpy as np
import numpy.typing as npt

from fusioncam.errors import DeviceError
from fusioncam.kernels.arrays import Array
from fusioncam.kernels.binary import load_binary
from fusioncam.kernels.device import Grid
from fusioncam.kernels.driver import Owned, check_index, contiguous, failure, giving, host_array, importing, reported


def open_device(index: int) -> "PyCudaDevice":
    """The GPU of that number.

    Raises:
        ImportError: PyCUDA is not installed, or not as this machine needs it.
        DeviceError: There is no driver, no such GPU, or it cannot run the kernels.
    """
    cuda = _imported()
    with reported("start", Exception):
        cuda.init()
        check_index(index, cuda.Device.count())
        return PyCudaDevice(cuda, index)


def _imported() -> Any:
    with importing(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what it warns of before it fails, the error says, too
        try:
            import pycuda.driver as cuda
        except ImportError as error:
            if "libcuda" in str(error):
                raise failure("start", error) from error
            raise
    return cuda


@cache
def _primary(cuda: Any, index: int) -> Any:
    """The context, kept as long as the process: others use it, too, and PyCUDA lets go of it in one thread only."""
    context = cuda.Device(index).retain_primary_context()
    # Its destructor alone would detach it as if it were not a primary context, and complain.
    weakref.finalize(context, context.detach)
    return context


@contextmanager
def _entered(context: Any) -> Iterator[None]:
    with reported("enter its context", Exception):
        context.push()
    try:
        yield
    finally:
        context.pop()


class PyCudaDevice:
    """A GPU through PyCUDA; see `fusioncam.kernels.device.Device`."""

    memory = "cuda"

    def __init__(self, cuda: Any, index: int) -> None:
        self._cuda, self._context, self.index = cuda, _primary(cuda, index), index
        device = cuda.Device(index)
        self.name = str(device.name())
        self._streams: dict[int, Any] = {}
        self._events: dict[int, Any] = {}
        self._functions: dict[str, Any] = {}
        self._numbers = count(1)
        binary = load_binary(device.compute_capability())
        with self.entered():
            self._module = [cuda.module_from_buffer(binary)]
        weakref.finalize(self, _drop, self._context, self._functions, self._events, self._streams, self._module)

    def entered(self) -> Any:
        """The primary context, current for a while."""
        return _entered(self._context)

    def allocate(self, nbytes: int) -> Owned:
        """Device memory."""
        with giving(nbytes, "memory", self._cuda.Error):
            held = self._cuda.mem_alloc(nbytes)
        return self._own(held, int(held), nbytes)

    def pinned(self, shape: Sequence[int], dtype: npt.DTypeLike) -> Array:
        """A page-locked array."""
        return host_array(shape, dtype, self._allocate_pinned)

    def _allocate_pinned(self, nbytes: int) -> Owned:
        with giving(nbytes, "pinned host memory", self._cuda.Error):
            held = self._cuda.pagelocked_empty(nbytes, np.uint8)
        return self._own(held.base, held.ctypes.data, nbytes)

    def _own(self, allocation: Any, pointer: int, nbytes: int) -> Owned:
        context = self._context

        # PyCUDA's own way frees nothing on another thread than the one that retained the context.
        def free() -> None:
            with suppress(Exception), _entered(context):  # a GPU that failed takes nothing back
                allocation.free()

        return Owned(pointer, nbytes, free)

    def stream(self) -> int:
        """A new stream."""
        with reported("make a stream", self._cuda.Error):
            made = self._cuda.Stream(1)  # CU_STREAM_NON_BLOCKING
        self._streams[made.handle] = made
        return int(made.handle)

    def _made(self, stream: int) -> Any:
        if stream not in self._streams:
            raise DeviceError("PyCUDA cannot use another library's stream; leave it out, or uninstall pycuda")
        return self._streams[stream]

    def event(self) -> int:
        """A new event."""
        number = next(self._numbers)
        with reported("make an event", self._cuda.Error):
            self._events[number] = self._cuda.Event()
        return number

    def record(self, event: int, stream: int) -> None:
        """Record an event."""
        with reported("record an event", self._cuda.Error):
            self._events[event].record(self._made(stream))

    def wait(self, stream: int, event: int) -> None:
        """Make a stream wait."""
        with reported("wait for an event", self._cuda.Error):
            self._made(stream).wait_for_event(self._events[event])

    def synchronize(self, stream: int) -> None:
        """Wait for a stream."""
        with reported("finish its work", self._cuda.Error):
            self._made(stream).synchronize()

    def elapsed(self, start: int, end: int) -> float:
        """Milliseconds from one event to another."""
        with reported("tell the time", self._cuda.Error):
            return float(self._events[end].time_since(self._events[start]))

    def upload(self, source: Array, pointer: int, stream: int) -> None:
        """Copy to the device."""
        with reported("take a copy", self._cuda.Error):
            self._cuda.memcpy_htod_async(pointer, contiguous(source), self._made(stream))

    def download(self, pointer: int, target: Array, stream: int) -> None:
        """Copy from the device."""
        with reported("give a copy", self._cuda.Error):
            self._cuda.memcpy_dtoh_async(contiguous(target), pointer, self._made(stream))

    def launch(self, kernel: str, grid: Grid, block: int, arguments: Sequence[np.generic], stream: int) -> None:
        """Start a kernel."""
        with reported(f"start {kernel}", self._cuda.Error):
            if kernel not in self._functions:
                self._functions[kernel] = self._module[0].get_function(kernel)
            self._functions[kernel](*arguments, grid=grid, block=(block, 1, 1), stream=self._made(stream))


def _drop(context: Any, *holders: Any) -> None:
    with suppress(DeviceError), _entered(context):
        for holder in holders:
            holder.clear()
