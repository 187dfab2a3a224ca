"""Stage `kernels`: every kernel against its reference, over all samples of the tests, by every launcher."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
from record import Record

from fusioncam.kernels.arrays import Array
from fusioncam.kernels.device import Device, DeviceArray, empty
from fusioncam.kernels.spec import Spec
from fusioncam.kernels.specs import SPECS
from gpu.cases import Arguments

sys.path.append(str(Path(__file__).parents[2] / "tests" / "shim"))
from samples import SAMPLES

SEED = 0
EDGE_CASES = 0.1  # of whole numbers, this share may be off by the tolerance: values on the edge between two


def check(record: Record, devices: dict[str, Device], missing: dict[str, str]) -> None:
    """Worst difference per kernel and launcher.

    Args:
        record: Gets the checks.
        devices: By launcher.
        missing: Launchers that are not there, and why.
    """
    for launcher, why in missing.items():
        record.leave_out(f"launcher {launcher}", why)
    for launcher, device in devices.items():
        with device.entered():
            for spec in SPECS.values():
                worst, share, samples = difference(device, spec)
                more: dict[str, Any] = {"launcher": launcher, "kernel": spec.name, "samples": samples}
                record.check(f"{spec.name} by {launcher}", worst, spec.tolerance, **more)
                if share is not None:
                    what = f"{spec.name} by {launcher}: share of whole numbers that differ"
                    record.check(what, share, EDGE_CASES, **more)


def difference(device: Device, spec: Spec) -> tuple[float, float | None, int]:
    """Largest absolute difference, largest share of whole numbers that differ (None: there are none), samples."""
    worst, share, count = 0.0, None, 0
    stream = device.stream()
    for arguments in SAMPLES[spec.name](np.random.default_rng(SEED)):
        count += 1
        found, wanted = run(device, spec, arguments, stream), spec.reference(**arguments)
        for one, right in zip(found.values(), wanted, strict=True):
            off = distances(one, np.asarray(right))
            worst = max(worst, float(off.max()))
            if one.dtype.kind in "iu" and one.size > 10:  # of fewer, a single one would be too many
                share = max(share or 0.0, np.count_nonzero(off) / off.size)
    return worst, share, count


def run(device: Device, spec: Spec, arguments: Arguments, stream: int) -> dict[str, Array]:
    """Return what the kernel writes; before, its outputs hold what no one could take for a result."""
    arrays = place(device, spec, arguments, stream)
    spec(device, stream, **{**arguments, **arrays})
    found = {name: np.empty(arrays[name].shape, arrays[name].dtype) for name in spec.outputs}
    for name, target in found.items():
        device.download(arrays[name].pointer, target, stream)
    device.synchronize(stream)
    return found


def place(device: Device, spec: Spec, arguments: Arguments, stream: int) -> dict[str, DeviceArray]:
    """All arrays of a call on the device."""
    sizes, arrays = spec.bind(arguments), {}
    for name, parameter in spec.arrays.items():
        shape, kind = spec.shape(name, sizes), np.dtype(parameter.dtype)
        unset = np.full(int(np.prod(shape)) * kind.itemsize, 0xFF, np.uint8).view(kind).reshape(shape)
        given = np.ascontiguousarray(arguments.get(name, unset))
        arrays[name] = empty(device, shape, kind)
        device.upload(given, arrays[name].pointer, stream)
        device.synchronize(stream)  # before `given` goes
    return arrays


def distances(found: Array, wanted: Array) -> Array:
    """Absolute differences; none where both are NaN or the same infinity, infinite where only one is."""
    if found.shape != wanted.shape:
        return np.full(1, np.inf)
    one, two = found.astype(np.float64), wanted.astype(np.float64)
    with np.errstate(invalid="ignore"):
        off = np.where((one == two) | (np.isnan(one) & np.isnan(two)), 0, abs(one - two))
    return np.asarray(np.where(np.isnan(off), np.inf, off))
