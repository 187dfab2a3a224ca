"""The launcher through cuda-core; for what that lacks (a context to enter, plain memory and copies), cuda-bindings."""

import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from fusioncam.errors import DeviceError
from fusioncam.kernels.arrays import Array
from fusioncam.kernels.binary import load_binary
from fusioncam.kernels.device import Grid
from fusioncam.kernels.driver import Owned, check_index, contiguous, giving, host_array, importing, reported


def open_device(index: int) -> "CudaCoreDevice":
    """The GPU of that number.

    Raises:
        ImportError: cuda-core is not installed, or not in one piece.
        DeviceError: There is no driver, no such GPU, or it cannot run the kernels.
    """
    with importing():
        import cuda.core
        from cuda.bindings import driver

    with reported("start", Exception):
        call(driver.cuInit, 0)
        check_index(index, call(driver.cuDeviceGetCount))
        return CudaCoreDevice(cuda.core, driver, index)


def call(function: Any, *arguments: Any) -> Any:
    """Call the driver.

    Raises:
        RuntimeError: What the driver says.
    """
    status, *results = function(*arguments)
    if status:
        raise RuntimeError(f"{function.__name__}: {status.name}")
    return results[0] if results else None


@cache
def _primary(driver: Any, index: int) -> Any:
    """The context, kept as long as the process: others use it, too."""
    return call(driver.cuDevicePrimaryCtxRetain, call(driver.cuDeviceGet, index))


@cache
def _library(core: Any, capability: tuple[int, int]) -> Any:
    """The kernels, loaded once for all contexts: cuda-core never unloads them."""
    library = core.ObjectCode.from_cubin(load_binary(capability))  # or a fatbin: it goes to the driver as it is
    with reported("load the kernels", Exception):
        _ = library.handle
    return library


@contextmanager
def _entered(driver: Any, context: Any) -> Iterator[None]:
    with reported("enter its context", RuntimeError):
        call(driver.cuCtxPushCurrent, context)
    try:
        yield
    finally:
        call(driver.cuCtxPopCurrent)


class CudaCoreDevice:
    """A GPU through cuda-core; see `fusioncam.kernels.device.Device`."""

    memory = "cuda"

    def __init__(self, core: Any, driver: Any, index: int) -> None:
        self._core, self._driver, self.index = core, driver, index
        self._context = _primary(driver, index)
        self._device = core.Device(index)
        self.name = str(self._device.name)
        self._streams: dict[int, Any] = {}
        self._events: dict[int, Any] = {}
        self._kernels: dict[str, Any] = {}
        with self.entered():
            self._device.set_current()  # the context that is current already, but cuda-core wants to be told
            self._library = _library(core, tuple(self._device.compute_capability))
        weakref.finalize(self, _drop, driver, self._context, self._events, self._streams)

    def entered(self) -> Any:
        """The primary context, current for a while."""
        return _entered(self._driver, self._context)

    def allocate(self, nbytes: int) -> Owned:
        """Device memory."""
        with giving(nbytes, "memory", RuntimeError):
            pointer = int(call(self._driver.cuMemAlloc, nbytes))
        return self._own(self._driver.cuMemFree, pointer, nbytes)

    def pinned(self, shape: Sequence[int], dtype: npt.DTypeLike) -> Array:
        """A page-locked array."""
        return host_array(shape, dtype, self._allocate_pinned)

    def _allocate_pinned(self, nbytes: int) -> Owned:
        with giving(nbytes, "pinned host memory", RuntimeError):
            pointer = int(call(self._driver.cuMemHostAlloc, nbytes, 0))
        return self._own(self._driver.cuMemFreeHost, pointer, nbytes)

    def _own(self, release: Any, pointer: int, nbytes: int) -> Owned:
        driver, context = self._driver, self._context

        def free() -> None:
            with suppress(Exception), _entered(driver, context):  # a GPU that failed takes nothing back
                call(release, pointer)

        return Owned(pointer, nbytes, free)

    def stream(self) -> int:
        """A new stream."""
        with reported("make a stream", Exception):
            made = self._device.create_stream(options=self._core.StreamOptions(nonblocking=True))
        self._streams[int(made.handle)] = made
        return int(made.handle)

    def _made(self, stream: int) -> Any:
        """The stream of that handle, which may be another library's."""
        if stream not in self._streams:
            self._streams[stream] = self._core.Stream.from_handle(stream)
        return self._streams[stream]

    def event(self) -> int:
        """A new event."""
        with reported("make an event", Exception):
            made = self._device.create_event(self._core.EventOptions(timing_enabled=True))
        self._events[int(made.handle)] = made
        return int(made.handle)

    def record(self, event: int, stream: int) -> None:
        """Record an event."""
        with reported("record an event", Exception):
            self._made(stream).record(self._events[event])

    def wait(self, stream: int, event: int) -> None:
        """Make a stream wait."""
        with reported("wait for an event", Exception):
            self._made(stream).wait(self._events[event])

    def synchronize(self, stream: int) -> None:
        """Wait for a stream."""
        with reported("finish its work", Exception):
            self._made(stream).sync()

    def elapsed(self, start: int, end: int) -> float:
        """Milliseconds from one event to another."""
        with reported("tell the time", Exception):
            return float(self._events[end] - self._events[start])

    def upload(self, source: Array, pointer: int, stream: int) -> None:
        """Copy to the device."""
        host = contiguous(source).ctypes.data
        with reported("take a copy", RuntimeError):
            call(self._driver.cuMemcpyHtoDAsync, pointer, host, source.nbytes, stream)

    def download(self, pointer: int, target: Array, stream: int) -> None:
        """Copy from the device."""
        host = contiguous(target).ctypes.data
        with reported("give a copy", RuntimeError):
            call(self._driver.cuMemcpyDtoHAsync, host, pointer, target.nbytes, stream)

    def launch(self, kernel: str, grid: Grid, block: int, arguments: Sequence[np.generic], stream: int) -> None:
        """Start a kernel."""
        with reported(f"start {kernel}", Exception):
            if kernel not in self._kernels:
                self._kernels[kernel] = self._library.get_kernel(kernel)
            config = self._core.LaunchConfig(grid=grid, block=block)
            self._core.launch(self._made(stream), config, self._kernels[kernel], *arguments)


def _drop(driver: Any, context: Any, *holders: Any) -> None:
    with suppress(DeviceError), _entered(driver, context):
        for holder in holders:
            holder.clear()
