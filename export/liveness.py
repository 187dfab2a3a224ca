"""Whether evidence flows through a layer: seen by running the model, whatever its structure says."""

import numpy as np
import numpy.typing as npt

from fusioncam.export.bundle import explain_graph
from fusioncam.export.canonical import Classifier
from fusioncam.export.check import PATCH, gradients
from fusioncam.export.head import head_graph
from fusioncam.export.layers import Candidate
from fusioncam.export.shapes import noise, session

NOTHING = "nothing of it reaches the scores: "


def why_dead(classifier: Classifier, candidate: Candidate, gradient: bool = True) -> str | None:
    """Return why a layer explains nothing, or None where some picture shows that it does.

    Its gradient is taken for pictures of noise and of patches and for several classes; without a gradient, the layer
    is set to zero and the logits are compared.

    Args:
        classifier: The model.
        candidate: A layer that is not refused.
        gradient: Whether the gradient can be had.

    Raises:
        UnsupportedOperatorError: As `explain_graph`.
    """
    images = _pictures(classifier)
    if not gradient:
        return _without_gradient(classifier, candidate, images)
    explain = session(explain_graph(classifier.model, candidate.name, candidate.layout))
    unknown = False
    for found in gradients(explain, images, classifier.classes):
        known = np.isfinite(found)
        unknown |= not known.all()
        if found[known].any():
            return None
    if unknown:
        return "its gradient is not finite"
    logits = session(classifier.model).run(None, {"image": images})[0]
    if np.ptp(logits, axis=0).max() == 0:
        return f"{NOTHING}the logits are the same for every picture; load the trained weights before the export"
    return f"{NOTHING}its gradient is zero"


def _pictures(classifier: Classifier) -> npt.NDArray[np.float32]:
    """Noise in 0..1, and patches in -2..2, where most models have their pictures."""
    height, width = classifier.size
    patches = np.random.default_rng(0).uniform(-2, 2, (3, -(-height // PATCH), -(-width // PATCH)))
    patchwork = patches.repeat(PATCH, axis=1).repeat(PATCH, axis=2)[:, :height, :width]
    return np.stack([noise(classifier.model, 1)[0], patchwork.astype(np.float32)])


def _without_gradient(classifier: Classifier, candidate: Candidate, images: npt.NDArray[np.float32]) -> str | None:
    head = head_graph(classifier.model, candidate.name, candidate.layout, classifier.precision)
    if head is None:
        return None
    masks = np.stack([np.ones((1, *candidate.layout.grid)), np.zeros((1, *candidate.layout.grid))]).astype(np.float32)
    run = session(head)
    pairs = [run.run(["logits"], {"image": image[None], "masks": masks})[0] for image in images]
    return (
        None if any((kept != gone).any() for kept, gone in pairs) else f"{NOTHING}the logits do not change without it"
    )
