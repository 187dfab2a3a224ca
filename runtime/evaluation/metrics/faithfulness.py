"""Does a map show what the model looks at? The model is asked about the picture with parts of it taken away.

Every metric names the pictures it wants to know of. They are passed together, and those that several maps or metrics
share once.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from fusioncam.errors import UsageError
from fusioncam.kernels.arrays import Array, Float32Array, Float64Array, Int32Array
from fusioncam.runtime.engine.host.passes import Pictures
from fusioncam.runtime.engine.scheduler import Task
from fusioncam.runtime.evaluation.metrics import road
from fusioncam.runtime.evaluation.metrics.catalogue import Measured, flags_of, merged

Confidence = Callable[[Float32Array], Array]
"""p_c (N,) of logits (N, classes)."""

Key = tuple[str | int, ...]
Known = Mapping[Key, float]  # p_c of pictures

STEPS = 32
WHOLE, ZEROS, BLURRED = ("whole",), ("zeros",), ("blurred",)
# What a picture starts as and what it ends as, while its pixels are changed from one to the other.
CURVES: dict[str, tuple[Key, Key]] = {"deletion": (WHOLE, ZEROS), "insertion": (BLURRED, WHOLE)}

# RISE blurs pictures of 224 pixels with a kernel of 11 pixels.
KERNEL, DEVIATION, SIDE = 11, 5.0, 224


@dataclass(frozen=True)
class Settings:
    """How faithfulness is measured.

    Attributes:
        metrics: Which of `PROBES`; `road` needs scipy.
        steps: Steps of insertion and deletion, all of the same number of pixels.
        percentiles: Thresholds of ROAD.
        noise: Standard deviation of the noise on what ROAD fills in, in preprocessed units.
    """

    metrics: Sequence[str] = ("drop", "insertion", "deletion")
    steps: int = STEPS
    percentiles: Sequence[int] = road.PERCENTILES
    noise: float = road.NOISE

    def __post_init__(self) -> None:
        if unknown := [m for m in self.metrics if m not in PROBES]:
            raise UsageError(
                f"no metric {unknown[0]!r}; there are {', '.join(PROBES)} "
                "(increase comes with drop, pointing and energy with annotations)"
            )
        if self.steps < 1:
            raise UsageError(f"insertion and deletion take 1 step or more, not {self.steps}")
        if not self.percentiles or not all(0 < p < 100 for p in self.percentiles):
            raise UsageError("the percentiles of ROAD lie between 0 and 100")
        if "road" in self.metrics:
            road.require_scipy()


class Subject:
    """One picture, and what is made of it for all maps.

    Args:
        x: The picture (3, H, W), preprocessed.
        settings: How it is measured.
        seed: Of the noise.
    """

    def __init__(self, x: Float32Array, settings: Settings, seed: int) -> None:
        self.x, self.settings, self._seed = x, settings, seed
        self.plain: dict[Key, Callable[[], Float32Array]] = {
            WHOLE: lambda: self.x,
            ZEROS: lambda: self._zeros,
            BLURRED: lambda: self._blurred,
        }

    @cached_property
    def _zeros(self) -> Float32Array:
        """The baseline: zeros in preprocessed space."""
        return np.zeros_like(self.x)

    @cached_property
    def _blurred(self) -> Float32Array:
        return blurred(self.x)

    @cached_property
    def noise(self) -> Float32Array:
        """The same for every map, so that maps are compared on equal terms."""
        drawn = np.random.default_rng(self._seed).standard_normal(self.x.shape, np.float32)
        return drawn * np.float32(self.settings.noise)


class Probe(NamedTuple):
    """What a metric wants to know of one map: p_c of these pictures, which `read` turns into figures."""

    pictures: dict[Key, Callable[[], Float32Array]]
    read: Callable[[Known], Measured]


class Map:
    """A map E (H, W) of a picture, called `name`."""

    def __init__(self, name: str, saliency: Float32Array) -> None:
        self.name, self.saliency = name, saliency.astype(np.float32, copy=False)

    @cached_property
    def rank(self) -> Int32Array:
        """Place (H, W) of every pixel, the most salient first; equal ones from left to right, row by row."""
        order = np.argsort(-self.saliency, axis=None, kind="stable")
        rank = np.empty(order.size, np.int32)
        rank[order] = np.arange(order.size, dtype=np.int32)
        return rank.reshape(self.saliency.shape)


def faithfulness(
    x: Float32Array,
    maps: Mapping[str, Float32Array],
    confidence: Confidence,
    pictures: Pictures,
    settings: Settings | None = None,
    seed: int = 0,
) -> Task[dict[str, Measured]]:
    """Measure several maps of one class of one picture.

    Args:
        x: The picture (3, H, W), preprocessed.
        maps: E (H, W) by method, in [0, 1]. What holds NaN gets a flag and no values.
        confidence: p_c of logits.
        pictures: Passes pictures through the model: `MaskedPasses.of_pictures`.
        settings: Which metrics, and how.
        seed: Of the noise of ROAD; one for each picture.

    Returns:
        By method: `confidence` p_c(x) and `confidence_under_map` p_c(x * E), and the figures asked for.
    """
    settings = settings or Settings()
    subject = Subject(x, settings, seed)
    flags = {name: flags_of(saliency) for name, saliency in maps.items()}
    sound = [Map(name, maps[name]) for name, met in flags.items() if "nan_map" not in met]
    probes = {each.name: [PROBES[m](subject, each) for m in settings.metrics] for each in sound}
    wanted = {key: make for asked in probes.values() for probe in asked for key, make in probe.pictures.items()}
    known: dict[Key, float] = {}
    if wanted:
        makers = list(wanted.values())
        logits = yield from pictures(len(makers), lambda i: makers[i]())
        known = dict(zip(wanted, confidence(logits).tolist(), strict=True))
    return {
        name: merged([Measured(flags=met), *(probe.read(known) for probe in probes.get(name, ()))])
        for name, met in flags.items()
    }


def drop(p: npt.ArrayLike, under: npt.ArrayLike) -> Array:
    """max(0, p - p') / p of confidences p > 0 and p' under the map (Grad-CAM++, arXiv 1710.11063); else NaN."""
    p = np.asarray(p, np.float64)
    above = np.where(p > 0, p, np.nan)
    return np.asarray(np.maximum(above - under, 0) / above)


def average_drop(whole: Sequence[float], under_map: Sequence[float]) -> float:
    """Average Drop (Grad-CAM++, arXiv 1710.11063): mean of max(0, p - p') / p; lower is better.

    Args:
        whole: p_c(x) of every picture, above 0.
        under_map: p' = p_c(x * E), E its map.
    """
    if len(whole) != len(under_map):
        raise ValueError(f"{len(whole)} pictures and {len(under_map)} maps")
    return float(drop(whole, under_map).mean())


def points(pixels: int, steps: int) -> Array:
    """How many pixels (steps + 1,) are changed after each of the steps, which are of equal size but for rounding."""
    return np.linspace(0, pixels, steps + 1).round().astype(int)


def blurred(x: Float32Array) -> Float32Array:
    """What insertion starts from: the picture (3, H, W) blurred as by RISE's program (arXiv 1806.07421).

    Its kernel of 11 pixels, for pictures of 224, grows with the picture. Beyond the edges it sees zeros.
    """
    scale = float(np.sqrt(x.shape[1] * x.shape[2])) / SIDE
    kernel = rise_kernel(2 * round((KERNEL * scale - 1) / 2) + 1, DEVIATION * scale)
    planes = [cv2.sepFilter2D(plane, -1, kernel, kernel, borderType=cv2.BORDER_CONSTANT) for plane in x]
    return np.stack(planes).astype(np.float32, copy=False)


def rise_kernel(length: int, deviation: float) -> Float64Array:
    """A Gaussian whose tails are folded back into its `length` pixels at the ends, cut at four deviations."""
    length = max(length, 3)
    reach = int(4 * deviation + 0.5)
    offsets = np.arange(-reach, reach + 1)
    weight = np.exp(-0.5 * (offsets / deviation) ** 2)
    place = (length // 2 + offsets) % (2 * length)
    folded = np.bincount(np.minimum(place, 2 * length - 1 - place), weight, length)
    return np.asarray(folded / weight.sum())


def _confidence(subject: Subject, given: Map) -> Probe:
    """Average Drop and Increase in Confidence: p_c(x) and p_c(x * E)."""
    under: Key = ("under", given.name)

    def read(known: Known) -> Measured:
        before, after = known[WHOLE], known[under]
        values = {
            "confidence": before,
            "confidence_under_map": after,
            "drop": float(drop(before, after)),
            "increase": float(after > before),
        }
        return Measured(values, flags=() if before > 0 else ("no_confidence",))

    return Probe({WHOLE: subject.plain[WHOLE], under: lambda: subject.x * given.saliency}, read)


def _curve(metric: str) -> Callable[[Subject, Map], Probe]:
    """Insertion or deletion: p_c while the pixels change, the most salient first."""
    first, last = CURVES[metric]

    def probe(subject: Subject, given: Map) -> Probe:
        counts = points(given.saliency.size, subject.settings.steps)
        start, end = subject.plain[first], subject.plain[last]

        def between(count: int) -> Callable[[], Float32Array]:
            return lambda: np.where(given.rank < count, end(), start())

        ends = {0: first, given.saliency.size: last}
        way = [ends.get(n, (metric, given.name, n)) for n in counts.tolist()]
        inner = {key: between(n) for key, n in zip(way, counts, strict=True)}

        def read(known: Known) -> Measured:
            curve = np.array([known[key] for key in way])
            return Measured({metric: float(np.trapezoid(curve, counts / counts[-1]))}, {metric: curve})

        return Probe({**inner, first: start, last: end}, read)

    return probe


def _road(subject: Subject, given: Map) -> Probe:
    """ROAD (arXiv 2202.00449): mean change of p_c over the percentiles, and half the difference of both orders."""
    settings = subject.settings
    wanted: dict[Key, Callable[[], Float32Array]] = {WHOLE: subject.plain[WHOLE]}
    ways: dict[str, list[Key]] = {}
    for way in road.ORDERS:
        ways[way] = []
        for percentile, limit in road.limits(given.saliency, way, settings.percentiles).items():
            key: Key = ZEROS
            make = subject.plain[ZEROS]  # where every pixel goes there is nothing to fill in from
            if limit is not None:
                key = ("road", given.name, way, percentile)
                make = _imputed(subject, given, way, limit)
            wanted[key] = make
            ways[way].append(key)

    def read(known: Known) -> Measured:
        curves = {way: np.array([known[key] for key in keys]) for way, keys in ways.items()}
        values = {way: float(curve.mean()) - known[WHOLE] for way, curve in curves.items()}
        values["road"] = (values["road_lerf"] - values["road_morf"]) / 2
        lost = any(ZEROS in keys for keys in ways.values())
        return Measured(values, curves, ("road_nothing_kept",) if lost else ())

    return Probe(wanted, read)


def _imputed(subject: Subject, given: Map, way: str, limit: np.floating) -> Callable[[], Float32Array]:
    return lambda: road.imputed(subject.x, road.kept(given.saliency, way, limit), subject.noise)


PROBES: dict[str, Callable[[Subject, Map], Probe]] = {
    "drop": _confidence,
    **{metric: _curve(metric) for metric in CURVES},
    "road": _road,
}
