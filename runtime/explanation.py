"""The result of explaining one target of one picture."""

from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

import numpy as np

import fusioncam
from fusioncam.errors import UsageError
from fusioncam.kernels.arrays import BoolArray, Float32Array, Float64Array, Size
from fusioncam.layer_names import short_layer_name
from fusioncam.manifest import Preprocessing
from fusioncam.runtime.detection_pictures import mark_of
from fusioncam.runtime.flags import flag_text
from fusioncam.runtime.passes import STANDARD_ERROR, TOLERANCE, Passes
from fusioncam.runtime.photos.geometry import on_photo
from fusioncam.runtime.picture.facts import Badge
from fusioncam.runtime.picture.marks import Mark, color_of
from fusioncam.runtime.picture.styles import HALF
from fusioncam.runtime.picture.titles import method_title, probability_title
from fusioncam.runtime.prepared import ResultPhoto
from fusioncam.runtime.probes.verdict import Verdict
from fusioncam.runtime.result_pictures import DrawnResult, shapes, stem_of
from fusioncam.runtime.targets.detections import Coordinates, Corners, Detection, corners
from fusioncam.runtime.targets.resolved import ResolvedTarget
from fusioncam.runtime.targets.sight import region_on_input

__all__ = ["STANDARD_ERROR", "TOLERANCE", "Explanation", "Passes"]

GUESSED = Badge("weak", "Preprocessing was guessed", ("the maps may explain another input than the model knows",))


@dataclass(frozen=True, repr=False)
class Explanation(DrawnResult):
    """Evidence for a class, or for another target, in a picture.

    Attributes:
        maps: One (H, W) float32 array in [0, 1] per method, at the size of the model's input; (L,) of a signal, (D,
            H, W) of a volume.
        class_index: The class, or the column, that is explained; -1 for a likeness.
        label: Name of the class, where the bundle has labels; of another target, its title.
        probability: Probability of the class, 0..1, for a region its mean; for a regression the value itself, for a
            likeness the cosine.
        flags: Special cases of this explanation, out of `FLAGS`.
        passes: Masked passes run, out of the number of channels. Shared by all classes of a picture.
        timing: Seconds per stage. Shared by all classes of a picture.
        photo_size: (H0, W0) of the photo; None for a preprocessed input.
        preprocessing: The way from the photo to the model's input.
        logits: (classes,) float32, the model's logits of the picture.
        verdict: Whether the model's answers support the first map that is not blank; None where nobody asked.
        image: Path or name of the picture as it was given; None for an array.
        model: Name of the bundle's folder; names of several bundles are joined by " + ".
        digest: The `digest` of the bundle's manifest, which identifies the bundle; None where it has none.
        layer: Name of the target layer; names of several are joined by " + ", see `layers`.
        budget: The budget in the words of the command line: `exact`, `auto`, `80ms`, `64`, `0.2`.
        smooth: Further views whose maps are averaged, `flip` or `noise`.
        providers: Short names of the providers that ran the model's graphs, in order of preference.
        version: Version of fusioncam.
        photo: The photo, as far as it is kept, see `Explainer.explain`.
        target: What is explained; None where no Explainer made the result.
    """

    maps: dict[str, Float32Array]
    class_index: int
    label: str | None
    probability: float
    flags: tuple[str, ...]
    passes: Passes
    timing: dict[str, float]
    photo_size: Size | None = None
    preprocessing: Preprocessing | None = None
    logits: Float32Array | None = None
    verdict: Verdict | None = None
    image: str | None = None
    model: str | None = None
    digest: str | None = None
    layer: str | None = None
    budget: str | None = None
    smooth: tuple[str, ...] = ()
    providers: tuple[str, ...] = ()
    version: str = fusioncam.__version__
    photo: ResultPhoto | None = None
    target: ResolvedTarget | None = None

    def __repr__(self) -> str:
        of = f" of {self.image}" if self.image else ""
        flags = f", flags {', '.join(self.flags)}" if self.flags else ""
        return f"<Explanation{of}: {self.headline}; {shapes(self.maps)}; {self.passes.run} passes{flags}>"

    def on_photo(self, method: str) -> Float32Array:
        """Return a map at the resolution of the photo (H0, W0); it is 0 at pixels that the model did not see.

        Raises:
            UsageError: There is no such map, or the input was preprocessed: there is no photo.
        """
        method = self.checked_method(method)
        if self.photo_size is None or self.preprocessing is None:
            raise UsageError(
                "the input came preprocessed, so there is no photo to lay the map on; pass the photo itself"
            )
        return on_photo(self.maps[method], self.photo_size, self.preprocessing)

    @property
    def origin(self) -> tuple[ResultPhoto | None, Preprocessing | None]:
        """Return the photo, and its way to the model's input."""
        return self.photo, self.preprocessing

    @property
    def stem(self) -> str:
        """Return the name of the result's files, without an ending: of the picture and of the target."""
        return stem_of(self.image, self.class_index if self.target is None else self.target.slug)

    @property
    def title(self) -> str:
        """Return the label of the class, or its number where there are no labels; of other targets, their title."""
        return self.target.title if self.target else self.label or f"class {self.class_index}"

    @property
    def score(self) -> float | None:
        """Return the score that the maps explain: a logit, its mean over a region, a value or a cosine.

        Of a detection it is the probability of its class where its box is, and of several detections their sum.
        """
        return None if self.target is None else self.target.score

    @property
    def detections(self) -> tuple[Detection, ...]:
        """Return the detections that are explained, with boxes, scores, classes and anchors; none of other targets."""
        rows = () if self.target is None else self.target.rows
        return tuple(row.detection for row in rows if row.detection is not None)

    @property
    def detection(self) -> Detection | None:
        """Return the detection that is explained; None for other targets, and for several detections."""
        return self.detections[0] if len(self.detections) == 1 else None

    @property
    def marks(self) -> tuple[Mark, ...]:
        """Return the detections as pictures show them; boxes that a caller gave as tensors, too."""
        if self.target is None or self.by is None:
            return ()
        if self.detections:
            return tuple(mark_of(detection, self.target.keypoint) for detection in self.detections)
        return tuple(Mark(corners(box), self.title, color_of(self.class_index)) for box in self.boxes)

    @property
    def heading(self) -> tuple[str, str]:
        """Return the name of the class or the keypoint, and where it is."""
        return (self.title, "") if self.target is None else self.target.heading

    @property
    def subject(self) -> str:
        """Return what the maps are evidence for in a detection; nothing for other targets."""
        return "" if self.target is None else self.target.subject

    @property
    def box(self) -> Corners | None:
        """Return the box of the detection, see `boxes`; None for other targets, and for several detections."""
        boxes = self.boxes
        return corners(boxes[0]) if len(boxes) == 1 else None

    @property
    def boxes(self) -> Float64Array:
        """Return the detections' boxes (n, 4) x1, y1, x2, y2, in pixels of the photo or of a preprocessed picture."""
        if self.target is None or self.preprocessing is None or self.target.by is None:
            return np.empty((0, 4))
        return Coordinates.of(self.photo_size, self.preprocessing).boxes(self.target.boxes)

    @property
    def by(self) -> str | None:
        """Return the evidence that counts for a detection: `score`, `box` or `both`; None for other targets."""
        return None if self.target is None else self.target.by

    @property
    def layers(self) -> tuple[str, ...]:
        """Return the names of the layers that explain the target: of a detection, those of its levels."""
        return tuple(self.layer.split(" + ")) if self.layer else ()

    @property
    def region(self) -> BoolArray | None:
        """Return the region of the target as a mask of the photo (H0, W0), or of a preprocessed picture (H, W).

        It is as fine as the model's maps. Of detections it is their instance masks. None where the target has neither.
        """
        if masks := self.masks(at_photo=True):
            return masks["mask"]
        share, preprocessing = self.region_share, self.preprocessing
        if share is None or preprocessing is None:
            return None
        whole = share if self.photo_size is None else on_photo(share, self.photo_size, preprocessing)
        return np.asarray(whole >= HALF)

    @property
    def region_share(self) -> Float32Array | None:
        """Return how much of each pixel (H, W) of the model's input lies in the region, in [0, 1]."""
        weights = None if self.target is None else self.target.region
        if weights is None or self.preprocessing is None:
            return None
        return region_on_input(weights, self.preprocessing)

    def masks(self, at_photo: bool = False) -> dict[str, BoolArray]:
        """Return the instance mask of the detections that are explained, see `DrawnResult.masks`."""
        found = [d.mask if at_photo else d.mask_on_input for d in self.detections]
        known = [mask for mask in found if mask is not None]
        return {"mask": np.asarray(np.any(known, axis=0))} if known else {}

    @property
    def headline(self) -> str:
        """Return the name of the class and its probability, in a line; of a detection, its place behind."""
        chance = probability_title(self.shown_probability)
        name, place = (self.title, "") if self.by is None else self.heading
        return f"{name} {chance} {place}".rstrip()

    @property
    def between(self) -> None:
        """Return no pair of classes: the maps are of one class, see `Difference.between`."""

    @property
    def shown_probability(self) -> float:
        """Return the probability behind the title; of a detection whose edges are explained, that of its class."""
        return self.detection.score if self.detection is not None and self.by == "box" else self.probability

    @property
    def badge(self) -> Badge | None:
        """Return the verdict as a panel shows it; without one, a warning where the preprocessing was guessed."""
        if self.verdict is None:
            return GUESSED if "assumed_preprocessing" in self.flags else None
        first, *more = self.verdict.reasons
        title = f"{method_title(self.verdict.method)} is {self.verdict.title}"
        return Badge(self.verdict.name, title, (first, *more))

    @property
    def facts(self) -> dict[str, str]:
        """Return the origin of the maps as a panel shows it: a line each, by its label."""
        run, channels, error = self.passes.run, self.passes.channels, self.passes.error
        passes = f"{run} passes for {channels} channels" if run else "no masked passes"
        size = f"{error:.2g}" if error > 1e-4 else "below 0.0001"
        off = f", estimated error of Score-CAM {size}" if error else ""
        if self.passes.standard_error:
            off += f", standard error of RISE {100 * self.passes.standard_error:.1f} % of its range"
        providers = ", ".join(self.providers)
        rows = {
            "Photo": self.image and PurePath(self.image).name,
            "Shown": self.preprocessing and self.preprocessing.shown_text,
            "Model": self.model,
            "Layer": " + ".join(map(short_layer_name, self.layers)),
            "Views": self.smooth and ", ".join(("the photo", *self.smooth)),
            "Budget": self.budget and f"{self.budget}: {passes}{off}",
            "Providers": "" if providers == "cpu" else providers,
            "Made by": f"fusioncam {self.version}",
        }
        return {label: row for label, row in rows.items() if row}

    @property
    def notes(self) -> tuple[str, ...]:
        """Return the flags, each as a sentence."""
        return tuple(map(flag_text, self.flags))

    def summary(self) -> dict[str, Any]:
        """Return all but the maps and logits, ready for JSON."""
        verdict = {} if self.verdict is None else {"verdict": self.verdict.summary()}
        found = [detection.summary() for detection in self.detections]
        boxes = {} if self.by is None else {"by": self.by, "boxes": self.boxes.round(2).tolist(), "detections": found}
        target = {} if self.target is None else {"target": {**self.target.summary(), **boxes}}
        return {
            "image": self.image,
            "model": self.model,
            "digest": self.digest,
            "layer": self.layer,
            "size": None if self.preprocessing is None else list(self.preprocessing.size),
            "providers": list(self.providers),
            "budget": self.budget,
            "smooth": list(self.smooth),
            "version": self.version,
            "class_index": self.class_index,
            "label": self.label,
            "probability": self.probability,
            **target,
            "methods": list(self.maps),
            "flags": {flag: flag_text(flag) for flag in self.flags},
            **verdict,
            "passes": self.passes._asdict(),
            "timing_seconds": {stage: round(seconds, 6) for stage, seconds in self.timing.items()},
        }

    def to_dict(self) -> dict[str, Any]:
        """Return `summary`, with arrays.

        They are `maps`, one (H, W) float32 array per method; `logits`, (classes,) float32; and `region`, see above, for
        a target that has one.
        """
        region = self.region
        return {**super().to_dict(), "logits": self.logits, **({} if region is None else {"region": region})}
