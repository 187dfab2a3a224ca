"""The built-in model opened up: everything between the picture and the map, for the pictures to show."""

from pathlib import Path
from typing import Any

import numpy as np

from fusioncam import export_model
from fusioncam.kernels import reference
from fusioncam.kernels.arrays import UInt8Array
from fusioncam.kernels.masks import MaskMaker
from fusioncam.kernels.reference import probabilities
from fusioncam.manifest import read_bundle
from fusioncam.runtime.demo import MODEL
from fusioncam.runtime.demo.scenes import sample_picture
from fusioncam.runtime.photos.model_input import as_input
from fusioncam.runtime.sessions.open import open_session

SCENE = sample_picture((384, 384)).image
"""The picture of `fusioncam demo`."""


class Lab:
    """The built-in model's bundle, its sessions, and all that is between the picture and the map."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.bundle = folder, folder / "shapes.fcam"
        export_model(MODEL, self.bundle)
        self.manifest = read_bundle(self.bundle)
        self._explain, self._score = (open_session(self.bundle / f"{name}.onnx") for name in ("explain", "score"))
        self.x = as_input(SCENE, self.manifest.preprocessing)[1]
        self.logits, self.activations, self.gradients = self.explained(self._explain)
        self.c = int(self.logits.argmax())
        self.masks = MaskMaker(self.activations, self.x)
        live = np.flatnonzero(~self.masks.zero & ~self.masks.constant)
        self.scores = {int(k): self.logit(self.x * self.masks.full(int(k))) for k in live}

    def explained(self, session: Any) -> list[Any]:
        """Logits, activations and gradients of the picture by a bundle's explain graph."""
        feeds = {"image": self.x[None], "class_index": np.array([-1], np.int64)}
        return [array[0] for array in session.run(["logits", "activations", "gradients"], feeds)]

    def logit(self, x: Any) -> float:
        """Return the logit f_c(x)."""
        return float(self._score.run(None, {"image": x[None].astype(np.float32)})[0][0, self.c])

    def confidence(self, x: Any, c: int | None = None) -> float:
        """p_c(x), by default of the class that is seen in the scene."""
        logits = self._score.run(None, {"image": x[None].astype(np.float32)})[0][0]
        return float(probabilities(logits, self.manifest.ending)[self.c if c is None else c])

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of the model's input."""
        return self.manifest.preprocessing.size

    def seen(self, x: Any) -> UInt8Array:
        """A preprocessed picture as pixels."""
        low, high = self.manifest.preprocessing.extremes
        return np.asarray(np.rint((x - low) / (high - low) * 255).clip(0, 255).transpose(1, 2, 0), np.uint8)

    def parts(self) -> dict[str, Any]:
        """Everything between x and F, by the names of the formulas."""
        gradient = reference.grad_cam(self.activations, self.gradients, self.size)
        live = list(self.scores)
        region = reference.score_cam(self.activations[live], np.array(list(self.scores.values())), self.size)
        denoised = reference.denoise(gradient)
        blank = self.confidence(self.x * 0)
        gains = [self.confidence(self.x * m) - blank for m in (denoised, region)]
        first = reference.contributions(*gains)
        united = reference.unite(denoised, region, first)
        gain = self.confidence(self.x * united) - blank
        second = reference.contributions(gain, first.second)
        one, two = second.first * united, second.second * region
        return {
            "G": gradient, "D": denoised, "R": region, "U": united, "L1": one, "L2": two,
            "sim": np.clip(1 - np.abs(one - two), 0, 1), "F": reference.blend(united, region, second),
            "gains": gains, "gain": gain, "first": first, "second": second,
        }  # fmt: skip
