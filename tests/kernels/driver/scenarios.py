"""What a launcher has to do, each in a process of its own: python scenarios.py NAME LAUNCHER."""

import ctypes
import gc
import sys
import tempfile
import threading
from pathlib import Path

import numpy as np
from harness import LIMIT, driver, elsewhere, get, hold, put, refused

from fusioncam.errors import DeviceError
from fusioncam.kernels import binary
from fusioncam.kernels.captures import CAPTURES
from fusioncam.kernels.device import available, empty, open_device
from fusioncam.kernels.specs import SPECS


def kernels(launcher):
    """Every kernel does what its spec says."""
    device = open_device(0, launcher)
    assert (device.name, device.index, device.memory) == ("Fake GPU 0", 0, "cuda")
    with device.entered():
        hold(device, device.stream(), SPECS)


def threads(launcher):
    """Two threads, a device for both, then one for each."""
    shared, problems = open_device(0, launcher), []

    def work(device, names):
        try:
            with device.entered():
                hold(device, device.stream(), names, samples=4)
        except BaseException as error:
            problems.append(error)

    for devices in ((shared, shared), (open_device(0, launcher), open_device(1, launcher))):
        parts = list(SPECS)[::2], list(SPECS)[1::2]
        both = [threading.Thread(target=work, args=pair) for pair in zip(devices, parts, strict=True)]
        for thread in both:
            thread.start()
        for thread in both:
            thread.join()
    assert not problems, problems


def order(launcher):
    """Streams wait for events, and for nothing else; time passes between events that have happened."""
    device = open_device(0, launcher)
    values = np.arange(12, dtype=np.float32).reshape(3, 4)
    with device.entered():
        one, other, start, end = device.stream(), device.stream(), device.timed_event(), device.timed_event()
        assert len({0, one, other}) == 3
        assert len({0, start, end}) == 3
        source, means = put(device, one, values), empty(device, (3,), np.float32)
        device.record(start, one)
        SPECS["row_means"](device, one, values=source, means=means)
        device.record(end, one)
        early = get(device, other, means)
        assert np.isnan(early).all(), "a stream waited for another without being told"
        refused(lambda: device.elapsed(start, end), "tell the time")
        host = device.pinned((3,), np.float32)
        device.wait(other, end)
        device.download(means.pointer, host, other)
        host[:] = -1
        device.synchronize(other)
        np.testing.assert_array_equal(host, values.mean(axis=1))
        assert 0 < device.elapsed(start, end) < 1e4
        made = device.event()
        SPECS["row_means"](device, one, values=source, means=means)
        device.record(made, one)
        device.download(means.pointer, host, one)
        host[:] = -1
        device.wait_until(made)  # and for nothing after it
        np.testing.assert_array_equal(host, -1)


def rows(launcher):
    """Part of an array is written where it lies."""
    device = open_device(0, launcher)
    whole = np.zeros((6, 2, 5), np.uint8)
    part = np.full((2, 2, 5), 7, np.uint8)
    with device.entered():
        stream = device.stream()
        array = put(device, stream, whole)
        device.upload(part, array.rows(3, 5).pointer, stream)
        whole[3:5] = 7
        np.testing.assert_array_equal(get(device, stream, array), whole)
        np.testing.assert_array_equal(get(device, stream, array.rows(4, 6).view(4, 5)), whole[4:6].reshape(4, 5))


def memory(launcher):
    """Memory goes with the last reference, on any thread, in its own context, even after the device."""
    device, library = open_device(1, launcher), driver()
    with device.entered():
        arrays = [empty(device, (1000,), np.float32) for _ in range(3)]
        part = arrays[0].rows(10, 20)
        pinned = [device.pinned((10, 10), np.int32) for _ in range(2)]
        device.record(device.event(), device.stream())
        assert device.pinned((0, 3), np.int32).shape == (0, 3)
    assert library.fake_memory_in_use() == 12000
    del arrays[0]
    assert library.fake_memory_in_use() == 12000
    del part
    assert library.fake_memory_in_use() == 8000
    elsewhere(lambda: (arrays.pop(), pinned.pop()))
    assert library.fake_memory_in_use() == 4000
    view = pinned.pop()[3:, 2]
    view[:] = 5
    assert library.fake_pinned_in_use() == 400
    del view
    assert library.fake_pinned_in_use() == 0
    devices = [device]
    del device
    elsewhere(devices.clear)
    with open_device(0, launcher).entered():
        arrays.clear()
    assert library.fake_memory_in_use() == 0


def too_much(launcher):
    """Too large a request is refused, and does no harm."""
    device = open_device(0, launcher)
    with device.entered():
        refused(lambda: device.allocate(LIMIT + 1), "50.0 MB of memory", "use a smaller chunk")
        refused(lambda: device.pinned((LIMIT + 1,), np.uint8), "50.0 MB of pinned", "use a smaller chunk")
        for shape in ((2**33, 2**31), (2**62,), (10**20,), (10**400,)):
            refused(lambda shape=shape: empty(device, shape, np.float32), "MB of memory", "use a smaller chunk")
            refused(lambda shape=shape: device.pinned(shape, np.float32), "MB of pinned", "use a smaller chunk")
        held = device.allocate(LIMIT - 1000)
        refused(lambda: device.allocate(2000), "use a smaller chunk")
        del held
        hold(device, device.stream(), ["row_means"])


def wrong(launcher):
    """What cannot be done is an error, at once or at the next wait."""
    device = open_device(0, launcher)
    with device.entered():
        stream = device.stream()
        refused(lambda: device.launch("no_kernel", (1, 1, 1), 32, [np.int32(1)], stream), "no_kernel")
        nowhere, sizes = [np.uintp(64)] * 2, [np.int32(1), np.int32(4)]
        refused(lambda: device.launch("row_means", (0, 1, 1), 64, nowhere + sizes, stream), "row_means")
        array = empty(device, (3, 4), np.float32)
        gaps = np.zeros((4, 3), np.float32).T
        refused(lambda: device.upload(gaps, array.pointer, stream), "strides", kind=ValueError)
        refused(lambda: device.download(array.pointer, gaps, stream), "strides", kind=ValueError)
        device.launch("row_means", (1, 1, 1), 64, nowhere + sizes, stream)
        refused(lambda: device.synchronize(stream), "finish its work", "start the program again")
    gc.collect()  # tracebacks, which hold streams


def context(launcher):
    """The context is current within, and what was before is afterwards."""
    library = driver()

    def current():
        found = ctypes.c_void_p()
        library.cuCtxGetCurrent(ctypes.byref(found))
        return found.value

    one, other = open_device(0, launcher), open_device(1, launcher)
    assert current() is None
    with one.entered():
        first = current()
        with other.entered(), one.entered():
            assert current() == first
            with other.entered():
                assert current() not in (None, first)
        assert current() == first
        primary = ctypes.c_void_p()
        library.cuDevicePrimaryCtxRetain(ctypes.byref(primary), 0)
        assert primary.value == first, "not the context that onnxruntime uses"
    assert current() is None
    refused(lambda: one.allocate(1), "give 0.0 MB")
    assert library.fake_mistakes().decode().split() == ["cuMemAlloc_v2", "without", "a", "context"]


def abandoned(launcher):
    """A generator given up within the context is ended by any thread, and leaves that thread's context alone."""
    device, found = open_device(0, launcher), []

    def within():
        with device.entered():
            yield

    def end(generators):
        with open_device(1, launcher).entered():
            generators.pop().close()
            found.append(device.index)

    generators = [within()]
    next(generators[0])
    elsewhere(lambda: end(generators))
    assert found


def captures(launcher):
    """While a graph is captured nothing else is called: calls wait, and finalizers leave their work for later."""
    device, library, done = open_device(0, launcher), driver(), []
    with device.entered():
        stream = device.stream()
        arrays, pinned = [empty(device, (1000,), np.float32)], [device.pinned((10,), np.float32)]

    def work():
        with device.entered():
            hold(device, stream, ["row_means"])
        done.append("work")

    with CAPTURES.alone():
        library.fake_capture(1)
        thread = threading.Thread(target=work)
        thread.start()
        del arrays[0], pinned[0]
        elsewhere(lambda: gc.collect())
        assert library.fake_memory_in_use() == 4000
        assert library.fake_pinned_in_use() == 40
        assert not done
        library.fake_capture(0)
    thread.join()
    assert done == ["work"]
    assert library.fake_memory_in_use() == library.fake_pinned_in_use() == 0


def old(launcher):
    """A driver that is older than the packaged PTX gets kernels that are compiled here, or says what to do."""
    with tempfile.TemporaryDirectory() as folder:
        binary.FOLDER = Path(folder)
        (binary.FOLDER / f"fusioncam-{binary.source_digest()[:16]}.fatbin").write_bytes(b"\x50\xed\x55\xba of no GPU")
        if "without" in sys.argv:
            binary.compiled_binary = binary.compile_kernels = missing
            refused(lambda: open_device(0, launcher), "load the kernels", "PTX", "update the NVIDIA driver")
            return
        device = open_device(0, launcher)
        with device.entered():
            hold(device, device.stream(), ["row_means"])


def missing(*_):
    raise DeviceError("there is no compiler; install one")


def foreign(launcher):
    """A stream of another library's can be used, or is refused."""
    device, handle = open_device(0, launcher), ctypes.c_void_p()
    with device.entered():
        driver().cuStreamCreate(ctypes.byref(handle), 1)
        if launcher == "pycuda":
            refused(lambda: device.synchronize(handle.value), "another library's stream")
        else:
            hold(device, handle.value, ["row_means"])
        gc.collect()
        driver().cuStreamDestroy_v2(handle)


def ending(launcher):
    """Nothing is left when the program ends, whatever it still holds."""
    device = open_device(0, launcher)
    with device.entered():
        device.stream(), device.event()
        device.kept = empty(device, (1000,), np.float32), device.pinned((1000,), np.float32)
    sys.modules["holder"] = device


def absent(launcher):
    """A machine without what it takes; the test says which of it is missing."""
    refused(lambda: open_device(0, launcher), *sys.argv[3:])
    fine, reason = available()
    assert not fine, reason
    assert "\n" not in reason, reason


def number(launcher):
    """There is no such device."""
    refused(lambda: open_device(2, launcher), "no GPU 2", "GPUs 0 to 1")
    refused(lambda: open_device(-1, launcher), "no GPU -1")
    assert available(1) == (True, "Fake GPU 1")


if __name__ == "__main__":
    globals()[sys.argv[1]](sys.argv[2])
