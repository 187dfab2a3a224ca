"""Calls that do not fit a kernel are refused before anything is launched."""

import re
from functools import partial

import numpy as np
import pytest

from fusioncam.kernels.device import DeviceArray, empty
from fusioncam.kernels.driver import host_array
from fusioncam.kernels.spec import Parameter, Spec
from fusioncam.kernels.specs import SPECS


class Recorder:
    """A device that has memory of any size, and starts nothing."""

    def __init__(self):
        self.launched, self.asked = [], []

    def allocate(self, nbytes):
        self.asked.append(nbytes)
        return type("Piece", (), {"pointer": 4096, "nbytes": nbytes})()

    def launch(self, kernel, grid, block, arguments, stream):
        self.launched.append((kernel, grid, block, arguments))


@pytest.fixture
def recorder():
    return Recorder()


SPEC = Spec(
    name="scale",
    arrays={
        "values": Parameter(np.float32, ("N", "K")),
        "groups": Parameter(np.int32, ("I",)),
        "out": Parameter(np.float32, ("N", "K"), out=True),
    },
    sizes=("N", "K", "I", "H"),
    scalars={"rank": np.int32, "factor": np.float32, "share": np.float64},
    grid=lambda s: (s["N"], 1, 1),
    block=64,
    reference=lambda: (),
    tolerance=0,
    rules={
        "N must be a multiple of I": lambda v: v["N"] % v["I"] == 0,
        "rank must be at least 0 and less than K": lambda v: 0 <= v["rank"] < v["K"],
    },
)


def arguments(device, n=4, k=3, images=2):
    """A call that is right."""
    values, out = empty(device, (n, k), np.float32), empty(device, (n, k), np.float32)
    groups = empty(device, (images,), np.int32)
    return {"values": values, "groups": groups, "out": out, "H": 5, "rank": 0, "factor": 0.5, "share": 1}


def test_a_call_that_fits_is_launched(recorder):
    given = {**arguments(recorder), "rank": np.int64(2), "factor": np.float64(0.5), "N": 4}
    SPEC(recorder, 0, **given)
    ((kernel, grid, block, values),) = recorder.launched
    assert (kernel, grid, block) == ("scale", (4, 1, 1), 64)
    assert values == [4096, 4096, 4096, 4, 3, 2, 5, 2, 0.5, 1]
    kinds = [np.uintp] * 3 + [np.int32] * 5 + [np.float32, np.float64]
    assert [type(v) for v in values] == kinds


CHANGES = {
    "values": [None, [1.0], np.zeros((4, 3), np.float32), 5],
    "out": [None, np.zeros((4, 3), np.float32)],
    "H": [0, -1, 4.9, "5", None, 2**31, 10**30, np.float32(5)],
    "I": [0, -1, 3],
    "N": [0, 8, 3],
    "rank": [-1, 3, 0.0, "0", None, 2**31, -(2**31) - 1, 10**30, [0]],
    "factor": ["0.5", None, 1e39, -1e300, np.nan, np.inf, 10**400, [0.5], 1j],
    "share": ["0.5", None, np.nan, -np.inf, 10**400],
    "typo": [1, None, np.zeros(3)],
}


@pytest.mark.parametrize(("name", "value"), [(name, v) for name, many in CHANGES.items() for v in many], ids=str)
def test_what_does_not_fit_is_named(recorder, name, value):
    with pytest.raises(ValueError, match=rf"^scale: .*\b{name}\b|^scale: values is .* but {name}\b") as info:
        SPEC(recorder, 0, **{**arguments(recorder), name: value})
    assert "\n" not in str(info.value).replace("\n ", "")
    assert not recorder.launched


@pytest.mark.parametrize("name", ["values", "groups", "out", "H", "rank", "factor", "share"])
def test_what_is_missing_is_named(recorder, name):
    given = arguments(recorder)
    del given[name]
    with pytest.raises(ValueError, match=rf"^scale: {name}\b"):
        SPEC(recorder, 0, **given)
    assert not recorder.launched


@pytest.mark.parametrize(("n", "images"), [(3, 2), (1, 2)])
def test_a_rule_that_does_not_hold_is_told_with_the_numbers(recorder, n, images):
    with pytest.raises(ValueError, match=rf"^scale: N must be a multiple of I, not .*N = {n}.*I = {images}"):
        SPEC(recorder, 0, **arguments(recorder, n, images=images))


@pytest.mark.parametrize("change", [{"dtype": np.float64}, {"shape": (4,)}, {"shape": (4, 0)}, {"shape": (5, 3)}])
def test_an_array_of_another_kind_is_refused(recorder, change):
    made = empty(recorder, change.get("shape", (4, 3)), change.get("dtype", np.float32))
    with pytest.raises(ValueError, match=r"^scale: out is "):
        SPEC(recorder, 0, **{**arguments(recorder), "out": made})


def test_sizes_can_be_had_of_some_of_the_arguments():
    values = np.zeros((4, 3), np.float32)
    assert SPEC.bind({"values": values, "H": np.int64(7), "rank": 1}) == {"H": 7, "N": 4, "K": 3}


@pytest.mark.parametrize("name", SPECS)
def test_every_kernel_takes_its_own_samples(recorder, checks, name):
    spec = SPECS[name]
    for given in checks.SAMPLES[name](np.random.default_rng(0)):
        sizes = spec.bind(given)
        arrays = {n: empty(recorder, spec.shape(n, sizes), p.dtype) for n, p in spec.arrays.items()}
        spec(recorder, 0, **{**given, **arrays})
    assert recorder.launched


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("expand_maps", {"H": -1}, "H is -1"),
        ("denoise_maps", {"rank": -1}, "rank must be at least 0 and less than P"),
        ("denoise_maps", {"rank": 37}, "rank must be at least 0 and less than P"),
        ("row_means", {"rows": 4.9}, "rows is 4.9"),
    ],
)  # fmt: skip
def test_a_kernel_is_not_started_beyond_its_arrays(recorder, checks, name, change, said):
    spec = SPECS[name]
    given = next(checks.SAMPLES[name](np.random.default_rng(0)))
    sizes = {**spec.bind(given), **change}
    whole = {axis: max(int(length), 1) for axis, length in sizes.items()}
    arrays = {n: empty(recorder, spec.shape(n, whole), p.dtype) for n, p in spec.arrays.items()}
    with pytest.raises(ValueError, match=f"^{name}: {said}"):
        spec(recorder, 0, **{**given, **change, **arrays})
    assert not recorder.launched


@pytest.mark.parametrize("shape", [(-1,), (2, -3), (2.0,), ("2",), (None,), (-1, -1)])
def test_what_is_no_shape_is_refused(recorder, shape):
    array = empty(recorder, (2, 3), np.float32)
    for make in (partial(empty, recorder), partial(host_array, allocate=recorder.allocate)):
        with pytest.raises(ValueError, match=re.escape(f"{shape} must be whole numbers, 0 or more")):
            make(shape, np.float32)
    with pytest.raises(ValueError, match="must be whole numbers"):
        array.view(*shape)
    assert recorder.asked == [24]


@pytest.mark.parametrize("shape", [(2**33, 2**31), (2**64,), (10**20, 10**20)])
def test_sizes_do_not_overflow(recorder, shape):
    made = empty(recorder, shape, np.float32)
    assert recorder.asked == [made.nbytes] == [4 * int(np.prod(np.array(shape, object)))]
    with pytest.raises(ValueError, match="not as large"):
        empty(recorder, (1,), np.float32).view(*shape)


@pytest.mark.parametrize(("start", "stop"), [(0.0, 2), (0, 1.5), (-1, 1), (2, 1), (0, 7), (None, 2)])
def test_rows_that_are_not_there_are_refused(recorder, start, stop):
    with pytest.raises(ValueError, match=r"whole numbers|rows"):
        empty(recorder, (6, 2), np.uint8).rows(start, stop)


def test_rows_and_views_keep_to_pythons_numbers(recorder):
    array = empty(recorder, (np.int64(6), np.int32(2)), np.uint8)
    part = array.rows(np.int64(2), np.int64(5)).view(np.int32(6))
    assert (part.pointer, part.shape, part.nbytes) == (4100, (6,), 6)
    assert all(type(n) is int for n in (*array.shape, *part.shape))
    assert isinstance(part, DeviceArray)
