"""Stage `bandwidth`: how long each kernel takes, and the bytes it moves against what a copy moves in the same process.

Launches are queued behind a copy that takes longer than the queueing, so that events measure the GPU and not the
program that starts the kernels. Outputs rotate among buffers that together are far larger than the L2 cache, which that
copy has emptied before; inputs stay, as they do between the chunks of a picture.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from record import Record, spread

from fusioncam.kernels.device import Device, DeviceArray, empty
from fusioncam.kernels.spec import Spec
from gpu.cases import Case
from gpu.kernels import place
from gpu.machine import copier

COPY_SHARE = 0.7  # of the copy's bandwidth that the mask kernels should reach


@dataclass(frozen=True)
class Effort:
    """Numbers of samples and copies to measure.

    Attributes:
        samples: Timed samples per kernel.
        launches: Launches per sample.
        footprint: Bytes that rotating buffers have together, if one per launch is enough for that.
    """

    samples: int = 40
    launches: int = 20
    footprint: int = 1 << 29


Work = Sequence[Callable[[], Any]]


class Timer:
    """Times work on one stream of a device.

    Args:
        device: The GPU.
        effort: How much to measure.
    """

    def __init__(self, device: Device, effort: Effort) -> None:
        self.device, self.effort, self.stream = device, effort, device.stream()
        self._copy, self._events = copier(device), [device.timed_event() for _ in range(3)]
        self._blocker = [empty(device, (effort.footprint,), np.uint8) for _ in range(2)]
        self._copies: dict[int, dict[str, Any]] = {}

    def time(self, work: Work) -> dict[str, Any]:
        """Seconds per launch, and whether all launches of every sample were queued before the first began."""
        device, stream = self.device, self.stream
        for launch in work:
            launch()
        device.synchronize(stream)
        blocks, seconds, ahead = self._blocks(work), [], True
        before, start, end = self._events
        for _ in range(self.effort.samples):
            began = time.perf_counter()
            device.record(before, stream)
            self._block(blocks)
            device.record(start, stream)
            self._launch(work)
            device.record(end, stream)
            queued = time.perf_counter() - began
            device.synchronize(stream)
            ahead = ahead and queued * 1e3 < device.elapsed(before, start)
            seconds.append(device.elapsed(start, end) / 1e3 / self.effort.launches)
        return {**spread(seconds), "queued_ahead": ahead}

    def _blocks(self, work: Work) -> int:
        """Return the number of copies that take three times as long as the queueing of a sample."""
        began = time.perf_counter()
        self._launch(work)
        queueing = time.perf_counter() - began
        before, start, _ = self._events
        self.device.record(before, self.stream)
        self._block(4)
        self.device.record(start, self.stream)
        self.device.synchronize(self.stream)
        each = max(self.device.elapsed(before, start) / 1e3 / 4, 1e-6)
        return min(int(3 * queueing / each) + 2, 500)

    def _block(self, count: int) -> None:
        one, other = self._blocker
        for _ in range(count):
            self._copy(one.pointer, other.pointer, one.nbytes, self.stream)

    def _launch(self, work: Work) -> None:
        for i in range(self.effort.launches):
            work[i % len(work)]()

    def copy(self, nbytes: int) -> dict[str, Any]:
        """A copy that reads and writes `nbytes` together, timed the same way."""
        half = max(nbytes // 2, 1)
        if half not in self._copies:
            sets = self._sets(2 * half)
            pairs = [[empty(self.device, (half,), np.uint8) for _ in range(2)] for _ in range(sets)]
            work = [lambda a=a, b=b: self._copy(a.pointer, b.pointer, half, self.stream) for a, b in pairs]
            self._copies[half] = self.time(work)
        return self._copies[half]

    def kernel(self, case: Case) -> dict[str, Any]:
        """One kernel, with its outputs rotating."""
        spec, arguments = case.spec, case.arguments
        arrays = place(self.device, spec, arguments, self.stream)
        outputs = [outputs_of(self.device, spec, arrays) for _ in range(self._sets(written(spec, arrays)) - 1)]
        calls = [{**arguments, **arrays, **made} for made in ({}, *outputs)]
        work = [lambda call=call: spec(self.device, self.stream, **call) for call in calls]
        footprint = len(calls) * written(spec, arrays) + moved(case, arrays) - written(spec, arrays)
        return {**self.time(work), "bytes": moved(case, arrays), "footprint_bytes": footprint}

    def _sets(self, nbytes: int) -> int:
        return min(max(-(-self.effort.footprint // nbytes), 1), self.effort.launches)


def outputs_of(device: Device, spec: Spec, arrays: dict[str, DeviceArray]) -> dict[str, DeviceArray]:
    """Another set of the arrays it writes."""
    return {name: empty(device, arrays[name].shape, arrays[name].dtype) for name in spec.outputs}


def written(spec: Spec, arrays: dict[str, DeviceArray]) -> int:
    """Bytes of the arrays it writes."""
    return sum(arrays[name].nbytes for name in spec.outputs)


def moved(case: Case, arrays: dict[str, DeviceArray]) -> int:
    """Bytes that must be read and written: every array once, or the part of it that the case says is needed."""
    return sum(case.needed.get(name, array.nbytes) for name, array in arrays.items())


def measure(record: Record, device: Device, cases: Sequence[Case], effort: Effort, l2_bytes: int = 0) -> None:
    """Time every case.

    Args:
        record: Gets figures and targets.
        device: The GPU.
        cases: Kernels with arguments of realistic sizes.
        effort: How much to measure.
        l2_bytes: Size of the L2 cache.
    """
    effort = replace(effort, footprint=max(effort.footprint, 8 * l2_bytes))
    with device.entered():
        timer = Timer(device, effort)
        for case in cases:
            try:
                found = timer.kernel(case)
                copied = timer.copy(found["bytes"])
            except Exception as error:  # the other kernels shall be timed all the same
                record.failed(case.label, error)
                continue
            own, other = (found["bytes"] / t["p50"] / 1e9 for t in (found, copied))
            share = copied["p50"] / found["p50"]
            record.figures.append({
                "kernel": case.spec.name, "case": case.label, "seconds": found, "gb_per_s": own,
                "copy_seconds": copied, "copy_gb_per_s": other, "share_of_copy": share,
                "larger_than_l2": found["footprint_bytes"] > 2 * l2_bytes > 0,
            })  # fmt: skip
            if case.spec.name.startswith("mask_pictures"):
                record.target(f"{case.label}: share of the copy's bandwidth", share, COPY_SHARE, at_least=True)
