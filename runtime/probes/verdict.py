"""The verdict on a map: is it evidence, by the model's own answers? A `Trial` asks, `judge` decides.

The support of a map is p_c(x * E) + insertion - deletion, after Grad-CAM++ (arXiv 1710.11063) and RISE (arXiv
1806.07421), with few steps. It is compared with the support of maps that know nothing of the evidence (`CONTROLS`).
Models with shuffled weights (arXiv 1810.03292) hardly answer to their maps, or not in a stable way. The limits were
fitted on some models; `benchmarks/verdict.py` shows the verdicts on others, too.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, NamedTuple

from fusioncam.kernels.arrays import Float32Array
from fusioncam.runtime.picture.titles import method_title
from fusioncam.runtime.probes.controls import CONTROLS
from fusioncam.runtime.probes.drop import drop_probe
from fusioncam.runtime.probes.measured import merged
from fusioncam.runtime.probes.pixel_curves import curve_probe
from fusioncam.runtime.probes.probe import BLURRED, WHOLE, ZEROS, Key, Known, Maker, Map, Subject

STEPS = 3  # of insertion and deletion: two pictures each lie between their ends
SHARED = (WHOLE, ZEROS, BLURRED)
UNKNOWN_FLIP = "the mirrored picture has no such detection: nobody knows whether Grad-CAM turns with the picture"
PROBES = (drop_probe, curve_probe("insertion"), curve_probe("deletion"))
OWN = "map"

SUPPORTED = 0.1  # least advantage of a supported map
UNSUPPORTED = 0.02  # least advantage and least support of a map that is not unsupported
LEAST_LEAD = 0.01  # of a supported map
LEAST_CHANCE = 0.1  # probability of a class that the model holds
LEAST_FLIP, LEAST_AGREEMENT = 0.7, 0.4  # correlations of stable maps

Word = Literal["supported", "weak", "unsupported"]


def passes_of(classes: int) -> int:
    """Return the number of passes that verdicts on the maps of so many classes of one picture take."""
    return len(SHARED) + classes * (1 + len(CONTROLS)) * (1 + 2 * (STEPS - 1))


@dataclass(frozen=True)
class Verdict:
    """A verdict on one map, with the numbers behind it.

    Attributes:
        name: `supported`: the model answers to this map, and better than to any control. `unsupported`: not at all, or
            no better than to controls on average. `weak`: anything between, and all maps that are not stable.
        method: The map that was verified: the first of the request that is not blank.
        stable: Whether nothing says that the map would be another if a little were changed.
        reasons: The grounds, a plain line each.
        numbers: `support` of the map, its `advantage` over the mean of its controls, its `lead` over the best of them;
            `flip`, the correlation of Grad-CAM with that of the mirrored picture; `agreement`, that of Grad-CAM with
            the region map. None where there was nothing to measure.
        figures: `drop`, `insertion`, `deletion` and `support` of the `map` and of each control.
    """

    name: Word
    method: str
    stable: bool
    reasons: tuple[str, ...]
    numbers: Mapping[str, float | None] = field(default_factory=dict)
    figures: Mapping[str, Mapping[str, float | None]] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """Return the verdict in a few words."""
        return self.name if self.stable else f"{self.name}, unstable"

    @property
    def notes(self) -> tuple[str, ...]:
        """Return the verdict with the first ground, and each further ground, as lines to read one below the other."""
        first, *more = self.reasons
        return (f"{method_title(self.method)} is {self.title}: {first}", *more)

    @property
    def line(self) -> str:
        """Return the notes in one line."""
        return "; ".join(self.notes)

    def summary(self) -> dict[str, Any]:
        """Return all of it, ready for JSON."""
        return asdict(self)


class Circumstances(NamedTuple):
    """Facts about a map besides the answers of the model.

    Attributes:
        probability: Of the class; None for the value of a regression.
        top: Whether no other class excludes this one with a higher probability.
        mixed: Whether the map is fused by contributions of both signs.
        flip: Correlation of Grad-CAM with that of the mirrored picture; None where there is no gradient.
        agreement: Correlation of Grad-CAM with the region map; None where either is missing.
        lost: Whether a detection has no counterpart in the mirrored picture, so that there is no flip.
    """

    probability: float | None = None
    top: bool = True
    mixed: bool = False
    flip: float | None = None
    agreement: float | None = None
    lost: bool = False


class Instability(NamedTuple):
    """A ground to call a map unstable: when it holds, and its line, formatted with the circumstances."""

    holds: Callable[[Circumstances], bool]
    line: str


INSTABILITIES = (
    Instability(lambda c: not c.top, "the class is not the model's top class (probability {probability:.2g})"),
    Instability(
        lambda c: c.top and c.probability is not None and c.probability < LEAST_CHANCE,
        "the model gives the class a probability of {probability:.2g} only",
    ),
    Instability(lambda c: c.mixed, "the map is fused by contributions of both signs, so small changes turn it over"),
    Instability(
        lambda c: c.flip is not None and c.flip < LEAST_FLIP, "Grad-CAM does not turn with the picture (r {flip:.2f})"
    ),
    Instability(
        lambda c: c.agreement is not None and c.agreement < LEAST_AGREEMENT,
        "gradient map and region map disagree (r {agreement:.2f})",
    ),
)


class Trial:
    """The questions to the model about one map and its controls, for one class.

    Args:
        subject: The picture, with `STEPS` steps.
        name: Name of the map among all maps of the picture.
        saliency: The map E (H, W).
    """

    def __init__(self, subject: Subject, name: str, saliency: Float32Array) -> None:
        maps = {OWN: saliency, **{name: control.make(saliency) for name, control in CONTROLS.items()}}
        named = {version: Map(f"{name}, {version}", m) for version, m in maps.items()}
        self._probes = {version: [probe(subject, m) for probe in PROBES] for version, m in named.items()}

    @property
    def pictures(self) -> dict[Key, Maker]:
        """Return the pictures to pass through the model, by key."""
        probes = [probe for of_version in self._probes.values() for probe in of_version]
        return {key: make for probe in probes for key, make in probe.pictures.items()}

    def figures(self, known: Known) -> dict[str, dict[str, float]]:
        """Return drop, insertion, deletion and support of the map and of each control; the drop is NaN without p.

        Args:
            known: p_c of the pictures, by key.
        """
        figures = {}
        for version, probes in self._probes.items():
            values = merged(probe.read(known) for probe in probes).values
            support = values["confidence_under_map"] + values["insertion"] - values["deletion"]
            figures[version] = {name: values[name] for name in ("drop", "insertion", "deletion")} | {"support": support}
        return figures


def scaled(known: Known) -> dict[Key, float]:
    """Return values of a regression as shares of what the whole picture changes; zeros where it changes nothing."""
    base, change = known[ZEROS], abs(known[WHOLE] - known[ZEROS])
    if change <= 1e-6 * abs(base):
        return dict.fromkeys(known, 0.0)
    return {key: (value - base) / change for key, value in known.items()}


def judge(method: str, figures: Mapping[str, Mapping[str, float]], met: Circumstances) -> Verdict:
    """Return the verdict on a map by its figures, those of its controls, and the circumstances."""
    support = {version: values["support"] for version, values in figures.items()}
    own = support.pop(OWN)
    best = max(support, key=lambda control: support[control])
    advantage, lead = own - sum(support.values()) / len(support), own - support[best]
    controls = ", ".join(f"{control} {value:z.2f}" for control, value in support.items())
    unstable = [f"unstable: {ground.line.format(**met._asdict())}" for ground in INSTABILITIES if ground.holds(met)]
    if own < UNSUPPORTED:
        reasons = ["the model hardly answers to it"]
    elif advantage < UNSUPPORTED:
        reasons = ["the model answers no better to it than to maps that know nothing"]
    elif lead < LEAST_LEAD:
        reasons = [f"{CONTROLS[best].title} does as well"]
    elif advantage < SUPPORTED:
        reasons = [f"the advantage is small ({advantage:.2f}, {SUPPORTED} is needed)"]
    else:
        reasons = ["the model answers to it, and better than to maps that know nothing"]
    convincing = advantage >= SUPPORTED and lead >= LEAST_LEAD and not unstable
    name: Word = "supported" if convincing else "unsupported" if min(own, advantage) < UNSUPPORTED else "weak"
    unknown = [UNKNOWN_FLIP] * met.lost
    reasons += [*unstable, *unknown, f"support {own:z.2f}, against {controls}"]
    numbers = {"support": own, "advantage": advantage, "lead": lead, "flip": met.flip, "agreement": met.agreement}
    told = {
        version: {name: None if math.isnan(value) else value for name, value in values.items()}
        for version, values in figures.items()
    }
    return Verdict(name, method, not unstable, tuple(reasons), numbers, told)


def of_blank(method: str) -> Verdict:
    """Return the verdict where all maps are blank: nothing is asked."""
    return Verdict("unsupported", method, True, ("the map is blank: there is nothing to verify",))
