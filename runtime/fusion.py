"""Fusion-CAM of one picture: which masked passes it takes, and what becomes of their logits."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from fusioncam.kernels import reference
from fusioncam.kernels.masks import MaskMaker, fill_with
from fusioncam.runtime.scoring import Floats, Scorer

METHODS = ("fusion_cam", "grad_cam", "score_cam")

Array = npt.NDArray[Any]
Progress = Callable[[int, int], None]


class Clock:
    """Seconds per stage."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, stage: str) -> None:
        """Book the time since the last lap under `stage`."""
        now = time.perf_counter()
        self.laps[stage] = self.laps.get(stage, 0.0) + now - self._last
        self._last = now


@dataclass(frozen=True)
class Evidence:
    """What the explain pass gives for one class: logits (classes,), activations and gradients (K, h, w)."""

    class_index: int
    logits: Floats
    activations: Floats
    gradients: Floats


@dataclass
class ClassMaps:
    """The maps (H, W) of one class, the special cases met, and the masked passes run for all classes."""

    maps: dict[str, Array] = field(default_factory=dict)
    flags: list[str] = field(default_factory=list)
    passes: int = 0


def probabilities(logits: Array, ending: Literal["logits", "softmax", "sigmoid"]) -> Array:
    """What the model makes of its logits (..., classes): a softmax, unless it ends in a sigmoid."""
    exact = logits.astype(np.float64)
    return np.asarray(1 / (1 + np.exp(-exact))) if ending == "sigmoid" else reference.softmax(exact)


class Fusion:
    """The road from evidence to maps, for all classes of one picture, which share the masked passes.

    Args:
        scorer: Runs the masked passes.
        image: x (3, H, W), preprocessed.
        evidence: One per class.
        ending: See `probabilities`.
        progress: Called with (done, all) masked passes after every chunk.
        clock: Gets the laps `masked passes` and `fusion`.
    """

    def __init__(
        self,
        scorer: Scorer,
        image: Floats,
        evidence: Sequence[Evidence],
        ending: Literal["logits", "softmax", "sigmoid"],
        progress: Progress | None,
        clock: Clock,
    ) -> None:
        self._scorer, self._image, self._evidence, self._ending = scorer, image, evidence, ending
        self._progress, self._clock, self._passes = progress, clock, 0
        self._size = (image.shape[1], image.shape[2])
        self._columns = [e.class_index for e in evidence]

    def maps(self, methods: Sequence[str]) -> list[ClassMaps]:
        """One `ClassMaps` per class, with the maps of `methods`; arXiv 2603.05386, steps 1 to 4."""
        made = [ClassMaps() for _ in self._evidence]
        gradient = [
            reference.grad_cam(e.activations.astype(np.float64), e.gradients.astype(np.float64), self._size)
            for e in self._evidence
        ]
        if "grad_cam" in methods:
            _keep(made, "grad_cam", gradient)
        if not {"fusion_cam", "score_cam"} & set(methods):
            return made
        fused = "fusion_cam" in methods
        denoised = [reference.denoise(g) for g in gradient] if fused else []
        region, neutral, gains = self._regions(denoised)
        if "score_cam" in methods:
            _keep(made, "score_cam", region)
        if fused:
            _keep(made, "fusion_cam", self._fuse(made, denoised, region, gains, neutral))
        self._clock.lap("fusion")
        for m in made:
            m.passes = self._passes
        return made

    def _regions(self, denoised: list[Array]) -> tuple[list[Array], list[float], list[float]]:
        """Step 2: Score-CAM of every class; also p_c(0) and p_c(x D), which ride along behind the channels."""
        activations = self._evidence[0].activations
        masks = MaskMaker(activations, self._image)
        live = np.flatnonzero(~masks.zero & ~masks.constant)
        extra = np.stack([np.zeros(self._size), *denoised])
        scores = np.empty((len(live), len(self._columns)))
        rows: list[Array] = []

        def fill(start: int, stop: int, out: Floats) -> None:
            channels = live[start:stop]
            masks.fill(channels, out[: len(channels)])
            if len(channels) < stop - start:
                at = max(start - len(live), 0)
                fill_with(extra[at : at + stop - start - len(channels)], self._image, out[len(channels) :])

        count = len(live) + len(extra)
        for start, logits in self._scorer.run(count, fill):
            of_channels = logits[: max(len(live) - start, 0)]
            scores[start : start + len(of_channels)] = of_channels[:, self._columns]
            rows += list(logits[len(of_channels) :])
            if self._progress is not None:
                self._progress(start + len(logits), count)
        self._passes += count
        self._clock.lap("masked passes")
        # Channels that are zero everywhere are left out. Constant ones have a mask of zeros, hence the score of x * 0.
        kept = np.flatnonzero(~masks.zero)
        constant = masks.constant[kept]
        maps = []
        for i, c in enumerate(self._columns):
            every = np.full(len(kept), float(rows[0][c]))
            every[~constant] = scores[:, i]
            maps.append(self._region(activations[kept].astype(np.float64), every))
        of_extra = probabilities(np.stack(rows), self._ending)
        neutral = [float(of_extra[0, c]) for c in self._columns]
        return maps, neutral, [float(p[c]) for p, c in zip(of_extra[1:], self._columns, strict=False)]

    def _region(self, activations: Array, scores: Array) -> Array:
        return reference.score_cam(activations, scores, self._size) if len(scores) else np.zeros(self._size)

    def _fuse(
        self, made: list[ClassMaps], denoised: list[Array], region: list[Array], seen: list[float], neutral: list[float]
    ) -> list[Array]:
        """Steps 3 and 4, given p_c(x D) = `seen` and p_c(0) = `neutral`."""

        def shares(m: ClassMaps, first: float, second: float) -> reference.Contributions:
            found = reference.contributions(first, second)
            m.flags += ["equal_contributions"] * found.degenerate + ["mixed_contributions"] * found.mixed
            return found

        of_region = self._confidence(region)
        at_first = [
            shares(m, d - b, r - b) for m, d, r, b in zip(made, seen, of_region, neutral, strict=True)
        ]  # fmt: skip
        union = [reference.unite(*each) for each in zip(denoised, region, at_first, strict=True)]
        # The region's share goes into the second division as the first one left it.
        of_union = self._confidence(union)
        at_last = [
            shares(m, u - b, s.second) for m, u, s, b in zip(made, of_union, at_first, neutral, strict=True)
        ]  # fmt: skip
        return [reference.blend(*each) for each in zip(union, region, at_last, strict=True)]

    def _confidence(self, maps: list[Array]) -> list[float]:
        """p_c(x m) of one map per class."""

        def fill(start: int, stop: int, out: Floats) -> None:
            fill_with(np.stack(maps[start:stop]), self._image, out)

        logits = np.concatenate([rows for _, rows in self._scorer.run(len(maps), fill)])
        self._passes += len(maps)
        self._clock.lap("masked passes")
        return [float(p[c]) for p, c in zip(probabilities(logits, self._ending), self._columns, strict=True)]


def _keep(made: list[ClassMaps], method: str, maps: list[Array]) -> None:
    for m, array in zip(made, maps, strict=True):
        m.maps[method] = array
        if not array.any():
            m.flags.append(f"flat_{method}")
