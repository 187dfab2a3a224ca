"""What a launcher has to do, each in a process of its own: python scenarios.py NAME LAUNCHER."""

import ctypes
import gc
import importlib.util
import sys
import threading
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from fusioncam.errors import DeviceError
from fusioncam.kernels.device import available, empty, open_device
from fusioncam.kernels.specs import SPECS

LIMIT = 50_000_000  # bytes of device memory, as the tests set it


def driver():
    """The driver that is none, past the launcher."""
    library = ctypes.CDLL("libcuda.so.1")
    library.fake_mistakes.restype = ctypes.c_char_p
    library.fake_memory_in_use.restype = library.fake_pinned_in_use.restype = ctypes.c_size_t
    return library


def refused(call, *parts, kind=DeviceError):
    """See that a call fails as it should: with one line that holds all these parts."""
    with pytest.raises(kind) as info:
        call()
    text = str(info.value)
    assert all(part in text for part in parts), text
    assert "\n" not in text, text
    assert kind is not DeviceError or ";" in text, text


def put(device, stream, array):
    """A copy of an array on the device."""
    made = empty(device, array.shape, array.dtype)
    device.upload(array, made.pointer, stream)
    return made


def get(device, stream, array):
    """A copy of an array of the device's, once its stream got there."""
    host = device.pinned(array.shape, array.dtype)
    device.download(array.pointer, host, stream)
    device.synchronize(stream)
    return host


def run(device, stream, spec, arguments):
    """What a kernel writes."""
    sizes = spec.bind(arguments)
    host = {n: np.ascontiguousarray(arguments[n]) for n in spec.arrays if n in arguments}
    arrays = {n: empty(device, spec.shape(n, sizes), p.dtype) for n, p in spec.arrays.items()}
    for name, array in host.items():
        device.upload(array, arrays[name].pointer, stream)
    spec(device, stream, **{**arguments, **arrays})
    return [get(device, stream, arrays[name]) for name in spec.outputs]


def hold(device, stream, names, samples=2):
    """Hold kernels against their references."""
    path = Path(__file__).parents[2] / "shim" / "checks.py"
    found = importlib.util.spec_from_file_location("checks", path)
    checks = importlib.util.module_from_spec(found)
    found.loader.exec_module(checks)
    for spec in map(SPECS.get, names):
        for arguments in islice(checks.SAMPLES[spec.name](np.random.default_rng(0)), samples):
            for made, right in zip(run(device, stream, spec, arguments), spec.reference(**arguments), strict=True):
                problem = checks.difference(spec, made, np.asarray(right))
                assert problem is None, f"{spec.name} differs {problem}"


def elsewhere(call):
    """Call on another thread."""
    thread = threading.Thread(target=call)
    thread.start()
    thread.join()


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
        one, other, start, end = device.stream(), device.stream(), device.event(), device.event()
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
