"""Faithfulness: a good map shows what the model looks at, so the model is asked about the picture with parts removed.

Every metric names the pictures it asks about. They are passed together, and equal ones of several maps or metrics once.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from fusioncam.errors import UsageError
from fusioncam.kernels.arrays import Array, Float32Array
from fusioncam.runtime.engine import Pictures, Task
from fusioncam.runtime.evaluation.metrics import road
from fusioncam.runtime.evaluation.metrics.catalogue import choices_of_metrics, flags_of
from fusioncam.runtime.probes.drop import drop_probe
from fusioncam.runtime.probes.measured import Measured, merged
from fusioncam.runtime.probes.pixel_curves import CURVES, curve_probe
from fusioncam.runtime.probes.probe import WHOLE, ZEROS, Key, Map, Probe, Subject
from fusioncam.runtime.probes.verdict import scaled

Confidence = Callable[[Float32Array], Array]
"""The confidences (N,) of answers (N, width), see `Readout`."""

PROBES: dict[str, Callable[[Subject, Map], Probe]] = {
    "drop": drop_probe,
    **{metric: curve_probe(metric) for metric in CURVES},
    "road": road.road_probe,
}


@dataclass(frozen=True)
class Settings:
    """The settings of the metrics of faithfulness.

    Attributes:
        metrics: Which of `PROBES`; `road` needs scipy.
        steps: Steps of insertion and deletion, all of the same number of pixels.
        percentiles: Thresholds of ROAD.
        noise: Standard deviation of the noise on what ROAD fills in, in preprocessed units.
    """

    metrics: Sequence[str] = ("drop", "insertion", "deletion")
    steps: int = 32
    percentiles: Sequence[int] = road.PERCENTILES
    noise: float = road.NOISE

    def __post_init__(self) -> None:
        if unknown := [m for m in self.metrics if m not in PROBES]:
            raise UsageError(f"no metric {unknown[0]!r}; there are {choices_of_metrics()}")
        if self.steps < 1:
            raise UsageError(f"insertion and deletion take 1 step or more, not {self.steps}")
        if not self.percentiles or not all(0 < p < 100 for p in self.percentiles):
            raise UsageError("the percentiles of ROAD lie between 0 and 100")
        if "road" in self.metrics:
            road.require_scipy()


def faithfulness(
    x: Float32Array,
    maps: Mapping[str, Float32Array],
    confidence: Confidence,
    pictures: Pictures,
    settings: Settings | None = None,
    seed: int = 0,
    as_shares: bool = False,
) -> Task[dict[str, Measured]]:
    """Measure several maps of one target of one picture.

    Args:
        x: The picture (C, H, W), preprocessed.
        maps: E (H, W) by method, in [0, 1]. One that holds NaN gets a flag and no values.
        confidence: Reads the confidences out of answers.
        pictures: Passes pictures through the model: `MaskedPasses.of_pictures`.
        settings: The metrics, and how they are measured.
        seed: Of the noise of ROAD; one for each picture.
        as_shares: Whether confidences are values of any size, to be measured as shares of what the picture changes.

    Returns:
        By method: the figures of the metrics.
    """
    settings = settings or Settings()
    subject = Subject(x, settings.steps, settings.percentiles, settings.noise, seed)
    flags = {name: flags_of(saliency) for name, saliency in maps.items()}
    sound = [Map(name, maps[name]) for name, met in flags.items() if "nan_map" not in met]
    probes = {target.name: [PROBES[m](subject, target) for m in settings.metrics] for target in sound}
    makers = {key: make for asked in probes.values() for probe in asked for key, make in probe.pictures.items()}
    known: dict[Key, float] = {}
    if makers:
        if as_shares:
            makers |= {key: subject.shared[key] for key in (WHOLE, ZEROS)}
        in_order = list(makers.values())
        logits = yield from pictures(len(in_order), lambda i: in_order[i]())
        known = dict(zip(makers, confidence(logits).tolist(), strict=True))
        known = scaled(known) if as_shares else known
    return {
        name: merged([Measured(flags=met), *(probe.read(known) for probe in probes.get(name, ()))])
        for name, met in flags.items()
    }
