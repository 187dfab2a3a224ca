"""The exact scores of a picture, stored: all that a plan can ask for, so that runs are replayed without the model."""

from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path

import numpy as np

from fusioncam.kernels.arrays import Array, Float32Array, IndexArray
from fusioncam.kernels.cam_methods import Scores, score_cam_map
from fusioncam.kernels.masks import MaskMaker
from fusioncam.runtime.budget.channel_plan import ExhaustivePlan
from fusioncam.runtime.engine.host.engine import HostEngine
from fusioncam.runtime.engine.host.passes import MaskedPasses
from fusioncam.runtime.engine.progress import Clock
from fusioncam.runtime.sessions.run import run
from fusioncam.runtime.targets.readout import readout_of
from fusioncam.runtime.targets.resolved import of_class

PARTS = ("logits", "activations", "gradients")  # of the explain graph of a classifier
RANKS = (0, 1, 2, -1)  # of the logits whose classes are stored: the top three, and the least likely


@dataclass(frozen=True)
class Case:
    """A picture seen by a model at one layer, with the exact scores of some classes, likeliest first.

    Attributes:
        activations: A (K, h, w).
        gradients: g (classes, K, h, w).
        logits: f_c(x) (classes,).
        baseline: f_c(x * 0) (classes,).
        scores: f_c(x * M_k) (K, classes); NaN for channels without a mask.
        classes: The indices c in the model (classes,).
        size: (H, W) of the input (2,).
    """

    activations: Float32Array
    gradients: Float32Array
    logits: Float32Array
    baseline: Float32Array
    scores: Float32Array
    classes: IndexArray
    size: IndexArray

    @cached_property
    def masks(self) -> MaskMaker:
        """Return the maker of the masks; only the size of the picture counts."""
        return MaskMaker(self.activations, self.image)

    @property
    def image(self) -> Float32Array:
        """Return a picture of zeros in place of x, which is not stored."""
        return np.zeros((3, *self.size), np.float32)

    @cached_property
    def live(self) -> IndexArray:
        """Return the channels that get a masked pass (n,)."""
        return np.flatnonzero(~np.isnan(self.scores[:, 0]))

    def exact_map(self, position: int) -> Array:
        """Return the exact Score-CAM (H, W) of one of the classes."""
        responding = np.flatnonzero(~self.masks.zero)
        scores = self.scores[responding, position].astype(np.float64)
        scores[np.isnan(scores)] = self.baseline[position]
        of = Scores(scores, scores, float(self.baseline[position]))
        return score_cam_map("score_cam", self.activations[responding].astype(np.float64), of, tuple(self.size))

    def save(self, path: Path) -> None:
        """Write the case to a file."""
        path.parent.mkdir(parents=True, exist_ok=True)
        held = path.with_suffix(".part.npz")
        np.savez_compressed(held, **{f.name: getattr(self, f.name) for f in fields(self)})
        held.replace(path)


def load(path: Path) -> Case:
    """Read a case from its file."""
    with np.load(path) as held:
        return Case(**{name: held[name] for name in held.files})


def measure(engine: HostEngine, x: Float32Array) -> Case:
    """Run every pass of a preprocessed picture (3, H, W) through an engine."""

    def explain(c: int) -> list[Array]:
        return [
            part[0] for part in run(engine.explain, PARTS, {"image": x[None], "class_index": np.array([c], np.int64)})
        ]

    logits, activations, _ = explain(-1)
    ranked = np.argsort(-logits, kind="stable")
    classes = np.array(list(dict.fromkeys(int(ranked[r]) for r in RANKS if r < len(ranked))), np.intp)
    masks = MaskMaker(activations, x)
    live = np.flatnonzero(~masks.zero & ~masks.constant)
    plan, zeros = ExhaustivePlan(live), np.zeros(x.shape[1:], np.float32)
    readout = readout_of(engine.manifest, [of_class(c) for c in classes.tolist()])
    task = MaskedPasses(x, Clock(), readout=readout).of_channels(masks, plan, [zeros], 0)
    (passed,) = engine.scheduler().run([task])
    scores = np.full((len(activations), len(classes)), np.nan, np.float32)
    scores[live] = plan.scores()
    gradients = np.stack([explain(c)[2] for c in classes.tolist()])
    baseline, size = passed.maps[0][classes], np.array(x.shape[1:], np.intp)
    return Case(activations, gradients, logits[classes], baseline, scores, classes, size)
