"""Difference of two explanations of the same picture: evidence for one class rather than another."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from fusioncam.errors import UsageError
from fusioncam.kernels.arrays import Float32Array
from fusioncam.manifest import Preprocessing
from fusioncam.runtime.explanation import Explanation, Passes
from fusioncam.runtime.flags import flag_text
from fusioncam.runtime.picture.titles import probability_title
from fusioncam.runtime.prepared import ResultPhoto
from fusioncam.runtime.result_pictures import DrawnResult, shapes


@dataclass(frozen=True, repr=False)
class Difference(DrawnResult):
    """Evidence for a class rather than for another.

    Attributes:
        maps: One (H, W) float32 array in [-1, 1] per method: the map of the first class less that of the second.
        first: The explanation of the first class.
        second: The explanation of the second class.
    """

    maps: dict[str, Float32Array]
    first: Explanation
    second: Explanation

    def __repr__(self) -> str:
        of = f" of {self.first.image}" if self.first.image else ""
        return f"<Difference{of}: {self.title}; {self.headline}; {shapes(self.maps)}>"

    @property
    def origin(self) -> tuple[ResultPhoto | None, Preprocessing | None]:
        """Return the photo, which both explanations share, and its way to the model's input."""
        return self.first.origin

    @property
    def region_share(self) -> Float32Array | None:
        """Return 1 for each pixel (H, W) of the model's input that lies in the detection, else 0; None without one."""
        preprocessing = self.first.preprocessing
        if not len(self.first.boxes) or self.first.target is None or preprocessing is None:
            return None
        (x1, y1, x2, y2), *_ = self.first.target.boxes.tolist()
        height, width = preprocessing.size
        columns, rows = np.arange(width) + 0.5, np.arange(height)[:, None] + 0.5
        inside = (x1 <= columns) & (columns <= x2) & (y1 <= rows) & (rows <= y2)
        return np.asarray(inside, np.float32)

    @property
    def stem(self) -> str:
        """Return the name of the result's files, without an ending: of the picture and of both classes."""
        other = self.second.target
        return f"{self.first.stem}-versus-{self.second.class_index if other is None else other.slug}"

    @property
    def names(self) -> tuple[str, str]:
        """Return the short names of both targets."""
        whole = (self.first.title, self.second.title)
        short = [title.split(",")[0].strip() for title in whole]
        if self.first.detections and self.second.detections:
            short = [self.first.heading[0], self.second.heading[0]]
        if short[0] == short[1] and self.first.class_index == self.second.class_index and whole[0] != whole[1]:
            return whole
        if short[0] == short[1]:
            return f"{short[0]} ({self.first.class_index})", f"{short[1]} ({self.second.class_index})"
        return short[0], short[1]

    @property
    def title(self) -> str:
        """Return what the maps show, in a line."""
        return "What speaks for {}, what for {}".format(*self.names)

    @property
    def between(self) -> tuple[str, str]:
        """Return the names of both classes: the maps are their difference."""
        return self.names

    @property
    def headline(self) -> str:
        """Return the short name and the probability of both classes, in a line."""
        pairs = zip(self.names, (self.first.probability, self.second.probability), strict=True)
        return ", ".join(f"{name} {probability_title(probability)}" for name, probability in pairs)

    @property
    def shown_probability(self) -> None:
        """Return no probability: there are two, see `headline`."""

    @property
    def badge(self) -> None:
        """Return no verdict: verdicts are about the map of one class."""

    @property
    def facts(self) -> dict[str, str]:
        """Return both probabilities, and where the maps come from, a line each, by its label."""
        return {"Probability": f"{self.headline}{self._neither}", **self.first.facts}

    @property
    def _neither(self) -> str:
        """Return a remark where the model's top class is a third one."""
        logits = self.first.logits
        if logits is None or logits.argmax() in (self.first.class_index, self.second.class_index):
            return ""
        return "; the model's top class is neither"

    @property
    def notes(self) -> tuple[str, ...]:
        """Return the flags of both explanations, each as a sentence."""
        return tuple(map(flag_text, self.flags))

    @property
    def largest(self) -> dict[str, float]:
        """Return the largest |difference| of each map: the value that gets full colours in a picture."""
        return {method: float(np.abs(np.nan_to_num(signed)).max(initial=0)) for method, signed in self.maps.items()}

    @property
    def class_index(self) -> int:
        """Return the index of the first class."""
        return self.first.class_index

    @property
    def flags(self) -> tuple[str, ...]:
        """Return the special cases of both explanations."""
        return tuple(dict.fromkeys((*self.first.flags, *self.second.flags)))

    @property
    def passes(self) -> Passes:
        """Return the passes, which both explanations share."""
        return self.first.passes

    @property
    def timing(self) -> dict[str, float]:
        """Return the seconds per stage, which both explanations share."""
        return self.first.timing

    def summary(self) -> dict[str, Any]:
        """Return all but the maps, ready for JSON: the summary of the first class, and the second under `versus`."""
        second = self.second.summary()
        return {
            **self.first.summary(),
            "versus": {
                **{key: second[key] for key in ("class_index", "label", "probability", "target") if key in second},
                "largest_difference": self.largest,
            },
            "flags": {**self.first.summary()["flags"], **second["flags"]},
        }


def difference(first: Explanation, second: Explanation) -> Difference:
    """Return the difference M_first - M_second of each method: positive where the first class has more evidence.

    Args:
        first: Explanation of one class.
        second: Explanation of another class of the same picture, by the same methods.

    Raises:
        UsageError: Both are of the same class, or their methods or sizes differ.
    """
    if _same(first, second):
        raise UsageError(f"{first.title!r} cannot be compared with itself; name another class")
    if list(first.maps) != list(second.maps):
        raise UsageError(f"the maps are by {', '.join(first.maps)} and by {', '.join(second.maps)}; use the same")
    maps = {}
    for method, saliency in first.maps.items():
        other = second.maps[method]
        if saliency.shape != other.shape:
            raise UsageError(f"maps of {saliency.shape} and {other.shape} pixels are not of the same picture")
        maps[method] = saliency - other
    return Difference(maps, first, second)


def _same(first: Explanation, second: Explanation) -> bool:
    """Return whether both explain the same target."""
    if first.target is None or second.target is None:
        return first.class_index == second.class_index
    return first.target.same_as(second.target)
