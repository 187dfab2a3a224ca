"""Insertion and deletion (RISE, arXiv 1806.07421): p_c while the pixels change, the most salient first."""

from collections.abc import Callable

import numpy as np

from fusioncam.kernels.arrays import Array
from fusioncam.runtime.probes.measured import Measured
from fusioncam.runtime.probes.probe import BLURRED, WHOLE, ZEROS, Key, Known, Maker, Map, Probe, Subject

# The pictures that the pixels are changed from, and to.
CURVES: dict[str, tuple[Key, Key]] = {"deletion": (WHOLE, ZEROS), "insertion": (BLURRED, WHOLE)}


def points(pixels: int, steps: int) -> Array:
    """Return the numbers of pixels (steps + 1,) changed after each step; steps are of equal size but for rounding."""
    return np.linspace(0, pixels, steps + 1).round().astype(int)


def curve_probe(metric: str) -> Callable[[Subject, Map], Probe]:
    """Return the function that makes the probe of insertion or deletion."""
    first, last = CURVES[metric]

    def probe(subject: Subject, target: Map) -> Probe:
        counts = points(target.saliency.size, subject.steps)
        start, end = subject.shared[first], subject.shared[last]

        def between(count: int) -> Maker:
            return lambda: np.where(target.rank < count, end(), start())

        ends = {0: first, target.saliency.size: last}
        keys = [ends.get(n, (metric, target.name, n)) for n in counts.tolist()]
        inner = {key: between(n) for key, n in zip(keys, counts, strict=True)}

        def read(known: Known) -> Measured:
            curve = np.array([known[key] for key in keys])
            area = (np.diff(counts / counts[-1]) * (curve[1:] + curve[:-1]) / 2).sum()
            return Measured({metric: float(area)}, {metric: curve})

        return Probe({**inner, first: start, last: end}, read)

    return probe
