"""A target that is resolved for one picture: what the graphs take, and what results call it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Self

import numpy as np

from fusioncam.errors import UsageError
from fusioncam.forms import SIDES, Form
from fusioncam.kernels.arrays import Array
from fusioncam.runtime.targets.detections import Detection, name_of, place_of
from fusioncam.runtime.targets.keypoints import keypoint_name

TOP_CLASS = -1  # the class of the highest logit, which the explain pass finds

Kind = Literal["class", "value", "region", "like", "box", "keypoint", "detections", "nothing"]


@dataclass(frozen=True, eq=False, slots=True)
class ResolvedTarget:
    """A scalar of the outputs for one picture.

    Attributes:
        kind: Its kind.
        class_index: The class or the column, `TOP_CLASS` until the explain pass has found it; -1 where the target is
            no class.
        label: Its name where it has one: of a class, the label; of other targets, their title.
        tensors: What the graphs take of this target beside the picture, by the names of their inputs, without the axis
            of the targets.
        sign: -1 where the score is the negative of what the graphs give, else 1.
        detail: Words that tell it from other targets of the class: `at 40, 60`, `in the mask`, `peak`, `down`.
        score: s of the picture; None before the explain pass.
        confidence: p of the picture; None before the explain pass.
        parts: Where the target is a sum, its terms: the graphs take those in its place.
        detection: What the detector found there; None where the target is none.
        keypoint: The number of the keypoint that is explained in place of the class.
    """

    kind: Kind = "class"
    class_index: int = TOP_CLASS
    label: str | None = None
    tensors: Mapping[str, Array] = field(default_factory=dict)
    sign: int = 1
    detail: str = ""
    score: float | None = None
    confidence: float | None = None
    parts: tuple["ResolvedTarget", ...] = ()
    detection: Detection | None = None
    keypoint: int | None = None

    @property
    def rows(self) -> tuple["ResolvedTarget", ...]:
        """Return the parts of the target, or the target alone: a row each of the tensors that graphs take."""
        return self.parts or (self,)

    @property
    def title(self) -> str:
        """Return the label, or the number of the class where there is none, and the detail."""
        if self.kind == "nothing":
            return self.detail
        return f"{self.name}, {self.detail}" if self.detail else self.name

    @property
    def name(self) -> str:
        """Return the label, or the number of the class where there is none."""
        return self.label or f"class {self.class_index}"

    @property
    def heading(self) -> tuple[str, str]:
        """Return the title in two parts: the name, of a keypoint its own, and what tells it from others."""
        if self.detection is None:
            return self.name, self.detail
        name = name_of(self.label, self.class_index)
        if self.keypoint is None:
            return name, self.detail
        keypoint = keypoint_name(self.keypoint, len(self.detection.keypoints))
        return keypoint, f"of {name} at {place_of(self.detection.box)}"

    @property
    def subject(self) -> str:
        """Return what speaks for a detection: `score`, `box`, `both` or `keypoint`; nothing for other targets."""
        return "keypoint" if self.keypoint is not None else self.by or ""

    @property
    def slug(self) -> str:
        """Return the title for names of files: the number of the class, and the detail."""
        named = str(self.class_index) if self.class_index >= 0 else self.label or self.kind
        return "_".join(re.findall(r"\w+", f"{named} {self.detail}"))

    @property
    def region(self) -> Array | None:
        """Return the weights (h', w') of the region on the outputs' grid; None where the target has none."""
        return self.tensors.get("region")

    @property
    def boxes(self) -> Array:
        """Return the boxes (n, 4) of the detections that it is about, in pixels of the model's input."""
        return np.stack([t.tensors["box"] for t in self.rows]) if self.by else np.empty((0, SIDES), np.float32)

    @property
    def by(self) -> str | None:
        """Return the evidence that counts for a detection: `score`, `box` or `both`; None for other targets."""
        weights = self.rows[0].tensors.get("weights")
        if weights is None:
            return None
        return "both" if weights[:SIDES].any() and weights[SIDES] else "score" if weights[SIDES] else "box"

    @property
    def is_found(self) -> bool:
        """Return whether every detection that it is about has an anchor; of other targets True."""
        return all(row.tensors.get("anchor", 0) >= 0 for row in self.rows)

    def summary(self) -> dict[str, Any]:
        """Return what is explained, ready for JSON."""
        region = {} if self.region is None else {"region_share": float(self.region.mean())}
        return {"kind": self.kind, "title": self.title, "score": self.score, "confidence": self.confidence, **region}

    def mirrored(self, width: int) -> Self:
        """Return the target of the picture mirrored left to right: its region or box is mirrored, too.

        The detection of the mirrored picture may come from another anchor, see `with_counterparts`.

        Args:
            width: W of the model's input.

        Raises:
            UsageError: It is a keypoint, which is another one in a mirror: a left ear becomes a right one.
        """
        if self.kind == "keypoint":
            raise UsageError("a keypoint is another one in a mirrored picture: leave out the view `flip`")
        if self.parts:
            return replace(self, parts=tuple(part.mirrored(width) for part in self.parts))
        turned: dict[str, Array] = {}
        if self.region is not None:
            turned["region"] = np.ascontiguousarray(self.region[:, ::-1])
        if "box" in self.tensors:
            x1, y1, x2, y2 = self.tensors["box"].tolist()
            left, up, right, down, score = self.tensors["weights"].tolist()
            turned["box"] = np.array([width - x2, y1, width - x1, y2], np.float32)
            turned["weights"] = np.array([-right, up, -left, down, score], np.float32)
            turned["anchor"] = np.array(-1, np.int64)
        return replace(self, tensors={**self.tensors, **turned}) if turned else self

    def same_as(self, other: "ResolvedTarget") -> bool:
        """Return whether both ask for the same scalar."""
        own, others = self.tensors, other.tensors
        return (
            (self.kind, self.class_index, self.sign) == (other.kind, other.class_index, other.sign)
            and own.keys() == others.keys()
            and all(np.array_equal(own[name], others[name]) for name in own)
            and len(self.parts) == len(other.parts)
            and all(mine.same_as(its) for mine, its in zip(self.parts, other.parts, strict=True))
        )


def of_class(class_index: int) -> ResolvedTarget:
    """Return the target of a class of a classifier, by its index or `TOP_CLASS`."""
    return ResolvedTarget("class", class_index, tensors={"class_index": np.array(class_index, np.int64)})


def nothing(why: str) -> ResolvedTarget:
    """Return what stands for the target of a picture that lacks it: no class, and the reason as its title."""
    return ResolvedTarget("nothing", detail=why, score=0.0, confidence=0.0)


TOP = of_class(TOP_CLASS)


def trial(form: Form) -> ResolvedTarget:
    """Return a target to try a model with: the top class, or placeholders."""
    if not form.scored:
        return TOP
    return ResolvedTarget(tensors={name: tensor[0] for name, tensor in form.placeholders(1).items()})
