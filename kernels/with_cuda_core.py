"""The launcher through cuda-core; for what that lacks (a context to enter, plain memory and copies), cuda-bindings."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, partial
from threading import get_ident
from typing import Any

import numpy as np

from fusioncam.kernels.arrays import Array
from fusioncam.kernels.binary import load_kernels
from fusioncam.kernels.device import Device, Grid
from fusioncam.kernels.driver import check_index, importing, reported


def open_device(index: int) -> Device:
    """Return the GPU of that number.

    Raises:
        ImportError: cuda-core is not installed, or not in one piece.
        DeviceError: There is no driver, no such GPU, or it cannot run the kernels.
    """
    with importing():
        import cuda.core
        from cuda.bindings import driver

    with reported("start"):
        call(driver.cuInit, 0)
        check_index(index, call(driver.cuDeviceGetCount))
        return CudaCoreDevice(cuda.core, driver, index)


def call(function: Any, *arguments: Any) -> Any:
    """Call the driver and return its result.

    Raises:
        RuntimeError: The driver reports an error.
    """
    status, *results = function(*arguments)
    if status:
        raise RuntimeError(f"{function.__name__}: {status.name}")
    return results[0] if results else None


@cache
def _primary(driver: Any, index: int) -> Any:
    """Return the context, kept as long as the process: others use it, too."""
    return call(driver.cuDevicePrimaryCtxRetain, call(driver.cuDeviceGet, index))


@cache
def _library(core: Any, capability: tuple[int, int]) -> Any:
    """Return the kernels, loaded once for all contexts: cuda-core never unloads them."""

    def load(binary: bytes) -> Any:
        library = core.ObjectCode.from_cubin(binary)  # or a fatbin: it goes to the driver as it is
        _ = library.handle
        return library

    with reported("load the kernels"):
        return load_kernels(capability, load)


@contextmanager
def _entered(driver: Any, context: Any) -> Iterator[None]:
    with reported("enter its context"):
        call(driver.cuCtxPushCurrent, context)
    thread = get_ident()
    try:
        yield
    finally:
        if get_ident() == thread:  # a generator given up is ended by any thread, whose own context stays
            call(driver.cuCtxPopCurrent)


class CudaCoreDevice(Device):
    """A GPU through cuda-core."""

    def __init__(self, core: Any, driver: Any, index: int) -> None:
        self._core, self._driver, self._device = core, driver, core.Device(index)
        super().__init__(str(self._device.name), index, partial(_entered, driver, _primary(driver, index)))
        with self.entered():
            self._device.set_current()  # the context that is current already, but cuda-core wants to be told
            self._library.append(_library(core, tuple(self._device.compute_capability)))

    def _allocate(self, nbytes: int) -> tuple[int, Callable[[], object]]:
        pointer = int(call(self._driver.cuMemAlloc, nbytes))
        return pointer, partial(call, self._driver.cuMemFree, pointer)

    def _allocate_pinned(self, nbytes: int) -> tuple[int, Callable[[], object]]:
        pointer = int(call(self._driver.cuMemHostAlloc, nbytes, 0))
        return pointer, partial(call, self._driver.cuMemFreeHost, pointer)

    def _new_stream(self) -> Any:
        return self._device.create_stream(options=self._core.StreamOptions(nonblocking=True))

    def _foreign_stream(self, handle: int) -> Any:
        return self._core.Stream.from_handle(handle)

    def _new_event(self, timed: bool) -> Any:
        return self._device.create_event(self._core.EventOptions(timing_enabled=timed, blocking_sync=not timed))

    def _record(self, event: int, stream: int) -> None:
        self._stream(stream).record(self._events[event])

    def _wait(self, stream: int, event: int) -> None:
        self._stream(stream).wait(self._events[event])

    def _synchronize(self, stream: int) -> None:
        self._stream(stream).sync()

    def _wait_until(self, event: int) -> None:
        self._events[event].sync()

    def _elapsed(self, start: int, end: int) -> Any:
        return self._events[end] - self._events[start]

    def _upload(self, source: Array, pointer: int, stream: int) -> None:
        call(self._driver.cuMemcpyHtoDAsync, pointer, source.ctypes.data, source.nbytes, stream)

    def _download(self, pointer: int, target: Array, stream: int) -> None:
        call(self._driver.cuMemcpyDtoHAsync, target.ctypes.data, pointer, target.nbytes, stream)

    def _kernel(self, name: str) -> Any:
        return self._library[0].get_kernel(name)

    def _launch(self, kernel: str, grid: Grid, block: int, arguments: Sequence[np.generic], stream: int) -> None:
        config = self._core.LaunchConfig(grid=grid, block=block)
        self._core.launch(self._stream(stream), config, self._kernels[kernel], *arguments)
