"""Detectors made by hand: a manifest, and the normal form of a picture."""

import numpy as np

from fusioncam.manifest import Manifest
from fusioncam.runtime.targets.sight import Outputs, Sight

LABELS = ("person", "dog", "traffic light")


def manifest_of(anchors=6, classes=3, ending="sigmoid", size=(100, 200), resize="squash", **detector):
    """The manifest of a detector, for pictures (100, 200)."""
    return Manifest.model_validate({
        "source": {"path": "d.onnx", "sha256": "0" * 64, "input": "images", "output": "output0"},
        "layer": {"name": "p3", "shape": (8, 10, 20), "roles": "NCHW"},
        "task": "detect",
        "reader": "yolo",
        "classes": classes,
        "ending": ending,
        "precision": "float32",
        "opset": 17,
        "preprocessing": {"size": size, "mean": (0.0,) * 3, "std": (1.0,) * 3, "resize": resize},
        "labels": LABELS[:classes],
        "detector": {"anchors": anchors, **detector},
        "tools": {},
        "files": dict.fromkeys(("explain.onnx", "score.onnx", "weights.bin"), "0" * 64),
    })  # fmt: skip


def logit(p):
    return np.log(p) - np.log1p(-np.asarray(p))


# Two persons, of whom the first is seen twice, a dog in front of the second, and something that is hardly a light.
BOXES = [(10, 20, 60, 90), (12, 22, 60, 92), (100, 10, 180, 90), (110, 40, 170, 90), (0, 0, 8, 8), (5, 5, 9, 9)]
CHANCES = [(0.9, 0.1, 0), (0.8, 0, 0), (0.7, 0.2, 0), (0.1, 0.6, 0), (0, 0, 0.2), (0.01, 0, 0)]


def form_of(extras=()):
    """The normal form of the picture: boxes, logits, and extras (A, E)."""
    numbers = logit(np.clip(CHANCES, 1e-4, 1 - 1e-4))
    return np.concatenate([np.array(BOXES, float), numbers, *extras], axis=1).astype(np.float32)


def sight_of(manifest, form=None, photo_size=None, blank=None, prototypes=None):
    """A picture of which the model makes a form, and of the blank picture another."""
    x = np.ones((3, 100, 200), np.float32)
    form = form_of() if form is None else form
    blank = form if blank is None else blank
    return Sight(manifest, x, photo_size, lambda image: Outputs(form if image.any() else blank, prototypes))
