"""Layers through which no evidence flows: seen by running the model, whatever its structure says."""

from dataclasses import replace

import numpy as np

from fusioncam.errors import ModelError
from fusioncam.export.bundle import explain_graph
from fusioncam.export.checking.gradient import gradients, minds_masks
from fusioncam.export.head import head_graph
from fusioncam.export.layers.choice import Candidate, Survey
from fusioncam.export.layers.levels import find_levels, pooling_of
from fusioncam.export.model import CanonicalModel
from fusioncam.export.random_pictures import patchwork
from fusioncam.export.reading.shapes import noise
from fusioncam.export.sessions import session
from fusioncam.further_inputs import drawn
from fusioncam.kernels.arrays import Float32Array

NOTHING = "nothing of it reaches the scores: "
SAME = "the logits are the same for every picture; load the trained weights before the export"


def live_levels(canonical: CanonicalModel, surveyed: Survey, gradient: bool = True) -> list[Candidate]:
    """Return the live levels of a detector, two or more; none of other models.

    Of a detector of two stages one may be all, and each level counts that some picture may have boxes on.
    """
    if canonical.detector is None:
        return []
    levels = find_levels(canonical.image, canonical.output, surveyed)
    if levels and pooling_of(levels[0]):
        levels = _with_boxes(canonical, levels)
        is_live = any(why_dead(canonical, level, gradient) is None for level in levels)
        return [replace(level, bypassed=False) for level in levels] if is_live else []
    live = [level for level in levels if why_dead(canonical, level, gradient) is None]
    return [replace(level, bypassed=False) for level in live] if len(live) > 1 else []  # together they see everything


def _with_boxes(canonical: CanonicalModel, levels: list[Candidate]) -> list[Candidate]:
    """Return the levels, those first of which boxes of some picture are pooled.

    Of several levels of one scale those without boxes are left out: torchvision takes the first of them for all boxes.
    """
    model = canonical.model.clone()
    pools = {str(level.value.name): pooling_of(level) for level in levels}
    wanted = [str(node.outputs[0].name) for node in pools.values() if node is not None]
    named = {str(o.name): o for node in model.graph for o in node.outputs}
    model.graph.outputs[:] = [named[name] for name in wanted]
    feeds = {"image": _pictures(canonical), **drawn(canonical.further, 2)}
    counts = [len(boxes) for boxes in session(model).run(None, feeds)]
    scales = [node.attributes.get_float("spatial_scale", 1.0) for node in pools.values() if node is not None]
    kept = [n for n in range(len(levels)) if counts[n] or scales.count(scales[n]) == 1]
    return [levels[n] for n in sorted(kept, key=lambda n: not counts[n])] or levels


def why_dead(canonical: CanonicalModel, candidate: Candidate, gradient: bool = True) -> str | None:
    """Return why a layer explains nothing, or None where some picture shows that it explains something.

    The gradient is computed for pictures of noise and of patches and for several classes. Without a gradient, the layer
    is set to zero and the logits are compared.

    Args:
        canonical: The model.
        candidate: A layer that is not refused.
        gradient: Whether the bundle gets a gradient.

    Raises:
        UnsupportedOperatorError: As `explain_graph`.
        ModelError: The logits do not depend on the picture, so no layer explains anything.
    """
    images = _pictures(canonical)
    if not gradient:
        changes = _changes(canonical, candidate, images)
        return f"{NOTHING}the logits do not change without it" if changes is False else None
    graph = explain_graph(canonical.model, candidate.name, candidate.layout, scoring=canonical.scoring)
    unknown = False
    for gradient_of_target in gradients(session(graph), images, canonical.form, canonical.further):
        known = np.isfinite(gradient_of_target)
        unknown |= not known.all()
        if gradient_of_target[known].any():
            return None
    if unknown:
        return "its gradient is not finite"
    logits = session(canonical.model).run(None, {"image": images, **drawn(canonical.further, len(images))})[0]
    same = np.ptp(logits, axis=0).max() == 0
    if not same and _changes(canonical, candidate, images):
        return None  # the output is saturated, as a sigmoid is far from zero
    if same:
        raise ModelError(f"no layer can explain the model: {NOTHING}{SAME}")
    return f"{NOTHING}its gradient is zero"


def _pictures(canonical: CanonicalModel) -> Float32Array:
    """Return noise in 0..1, and patches in -2..2, the range of most models' pictures."""
    patches = 4 * patchwork(np.random.default_rng(0), canonical.shape)[0] - 2
    return np.stack([noise(canonical.model, 1)[0], patches.astype(np.float32)])


def _changes(canonical: CanonicalModel, candidate: Candidate, images: Float32Array) -> bool | None:
    """Return whether the logits change with the layer set to zero or negated; None where the layer takes no masks."""
    head = head_graph(canonical.model, candidate.name, candidate.layout, canonical.precision, canonical.scoring)
    if head is None:
        return None
    return minds_masks(session(head), images, canonical.form, candidate.layout.grid, canonical.further)
