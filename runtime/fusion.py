"""Fusion-CAM of one picture: which steps follow which, wherever they are computed."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from fusioncam.runtime.explanation import Passes
from fusioncam.runtime.image import UInt8Array
from fusioncam.runtime.work import Array, Floats, Work

METHODS = ("fusion_cam", "grad_cam", "score_cam")
SOURCES = {"grad_cam": "gradients", "score_cam": "logits", "fusion_cam": "logits"}  # of NaN, if a map holds it

Maps = TypeVar("Maps")
Confidences = TypeVar("Confidences")


class Steps(Protocol[Maps, Confidences]):
    """The steps of arXiv 2603.05386 for one picture x and N classes of it, which share the masked passes.

    A batch of N maps (H, W), one per class, and N confidences stay where they are computed: on the host or on a GPU.
    """

    @property
    def classes(self) -> Sequence[int]:
        """The classes c."""

    @property
    def logits(self) -> Floats:
        """f(x) (all classes,)."""

    @property
    def passes(self) -> Passes:
        """Masked passes run so far, channels, and the weight that is guessed."""

    @property
    def settled(self) -> bool:
        """Whether more masked passes would hardly change the maps."""

    def grad_cam(self) -> Maps:
        """Step 1: G."""

    def denoise(self, gradient: Maps) -> Maps:
        """Step 1: D."""

    def score_channels(self, also: Maps | None) -> Work[Confidences | None]:
        """Step 2: the masked passes of the channels that matter; x * 0 and x * m of `also` ride along.

        Returns:
            The confidences of x * m.
        """

    def score_cam(self) -> Maps:
        """Step 2: R, after `score_channels`."""

    def confidences(self, maps: Maps) -> Work[Confidences]:
        """Step 3: p_c(x * m), by one more pass for each map."""

    def unite(self, denoised: Maps, region: Maps, of_denoised: Confidences, of_region: Confidences) -> Maps:
        """Step 3: U, by the shares that D and R have in the gain over x * 0."""

    def blend(self, united: Maps, region: Maps, of_united: Confidences) -> Maps:
        """Step 4: F, by the shares of U and R; that of R goes into the division as `unite` left it."""

    def fetch(self, maps: Maps, what: str) -> Sequence[Array]:
        """The maps as arrays (H, W) on the host.

        Raises:
            FusionCamError: They hold NaN, for `what` does.
        """

    def overlay(self, maps: Maps, photo: UInt8Array, colors: UInt8Array, opacity: float) -> Sequence[UInt8Array]:
        """The maps laid over one photo (H, W, 3), on the host; see `reference.overlay`."""

    def contribution_flags(self) -> Sequence[tuple[bool, bool]]:
        """Per class, after `blend`: whether shares could not be told, and whether they differ in sign."""


@dataclass
class ClassMaps:
    """The maps (H, W) of one class, and the special cases met on the way."""

    maps: dict[str, Array] = field(default_factory=dict)
    flags: list[str] = field(default_factory=list)


def take_steps(steps: Steps[Maps, Confidences], methods: Sequence[str]) -> Work[dict[str, Maps]]:
    """The maps asked for and those they are made of, by method, where they were computed."""
    made = {}
    fused, denoised = "fusion_cam" in methods, None
    if fused or "grad_cam" in methods:
        made["grad_cam"] = gradient = steps.grad_cam()
        denoised = steps.denoise(gradient) if fused else None
    if fused or "score_cam" in methods:
        of_denoised = yield from steps.score_channels(denoised)
        made["score_cam"] = region = steps.score_cam()
        if denoised is not None and of_denoised is not None:
            united = steps.unite(denoised, region, of_denoised, (yield from steps.confidences(region)))
            made["fusion_cam"] = steps.blend(united, region, (yield from steps.confidences(united)))
    return made


def make_maps(steps: Steps[Maps, Confidences], methods: Sequence[str]) -> Work[list[ClassMaps]]:
    """The maps of all classes of one picture.

    Args:
        steps: Where and on what the steps are computed.
        methods: Which maps are wanted. Those they are made of come along.

    Returns:
        One `ClassMaps` per class.
    """
    made = yield from take_steps(steps, methods)
    found = [ClassMaps() for _ in steps.classes]
    for method, maps in made.items():
        for m, array in zip(found, steps.fetch(maps, SOURCES[method]), strict=True):
            m.maps[method] = array
    fused = "fusion_cam" in made
    contributions = steps.contribution_flags() if fused else [(False, False)] * len(found)
    for m, (degenerate, mixed) in zip(found, contributions, strict=True):
        m.flags = [f"flat_{method}" for method, array in m.maps.items() if not array.any()]
        m.flags += ["cut_short"] * (not steps.settled)
        m.flags += ["equal_contributions"] * degenerate + ["mixed_contributions"] * mixed
    return found
