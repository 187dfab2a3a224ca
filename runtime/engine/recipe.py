"""The maps of one picture: which steps follow which, wherever they are computed."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, TypeVar

import numpy as np

from fusioncam.kernels.arrays import Array, Float32Array, UInt8Array
from fusioncam.kernels.family import GRADIENT_MAPS, SCORE_CAMS
from fusioncam.kernels.reference import unit
from fusioncam.runtime.engine.scheduler import Work
from fusioncam.runtime.explanation import Passes
from fusioncam.runtime.methods import REGION, Recipe, recipe, with_parts

Maps = TypeVar("Maps")
Confidences = TypeVar("Confidences")


class Steps(Protocol[Maps, Confidences]):
    """The steps of arXiv 2603.05386 and its family for one picture x and N classes of it, which share masked passes.

    A batch of N maps (H, W), one per class, and N confidences stay where they are computed: on the host or on a GPU.
    """

    @property
    def classes(self) -> Sequence[int]:
        """The classes c."""

    @property
    def logits(self) -> Float32Array:
        """f(x) (all classes,)."""

    @property
    def passes(self) -> Passes:
        """Masked passes run so far, channels, and the weight that is guessed."""

    @property
    def settled(self) -> bool:
        """Whether more masked passes would hardly change the maps."""

    def gradient_map(self, method: str) -> Maps:
        """Step 1: G, or another gradient method's map."""

    def denoise(self, gradient: Maps, theta: float) -> Maps:
        """Step 1: D."""

    def score_channels(self, corners: bool, also: Sequence[Maps], later: int, ways: int) -> Work[Sequence[Confidences]]:
        """Step 2: the masked passes of the channels that matter; x * 0 and x * m of `also` ride along.

        Args:
            corners: How masks are enlarged, see `ScoreCam`.
            also: Full-size maps.
            later: Passes that will be asked for afterwards, those of channels apart.
            ways: Ways to enlarge masks that are left, this one included: they share what may be spent.

        Returns:
            The confidences of x * m, in their order.
        """

    def score_nothing(self, also: Sequence[Maps], later: int) -> Work[Sequence[Confidences]]:
        """In place of `score_channels` where no Score-CAM is wanted: the passes of x * 0 and x * m of `also` alone."""

    def region_passes(self, method: str) -> int:
        """Passes that `region_map` will ask for."""

    def region_map(self, method: str) -> Work[Maps]:
        """Step 2: R, or another region method's map; those of Score-CAM after `score_channels`."""

    def confidences(self, maps: Maps) -> Work[Confidences]:
        """Step 3: p_c(x * m), by one more pass for each map."""

    def unite(self, denoised: Maps, region: Maps, of_denoised: Confidences, of_region: Confidences) -> Maps:
        """Step 3: U, by the shares that D and R have in the gain over x * 0."""

    def blend(self, united: Maps, region: Maps, of_united: Confidences) -> Maps:
        """Step 4: F, by the shares of U and R; that of R goes into the division as `unite` left it."""

    def choose(self, united: Maps, region: Maps, of_united: Confidences, of_region: Confidences) -> Maps:
        """Union-CAM: U or R, whichever gains more of the confidence."""

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


class Look(NamedTuple):
    """What one look at a picture gives: the classes, their maps, the logits of all classes, passes."""

    classes: list[int]
    made: list[ClassMaps]
    logits: Float32Array
    passes: Passes


def take_steps(steps: Steps[Maps, Confidences], methods: Sequence[str]) -> Work[dict[str, Maps]]:
    """The maps asked for and those they are made of, by method, where they were computed. No pass is run twice."""
    recipes = {m: found for m in methods if (found := recipe(m)) is not None}
    wanted = with_parts(methods)
    made = {m: steps.gradient_map(m) for m in GRADIENT_MAPS if m in wanted}
    noisy = dict.fromkeys((r.gradient, r.theta) for r in recipes.values())
    denoised = {(m, theta): steps.denoise(made[m], theta) for m, theta in noisy}
    unions = {(r.gradient, r.region, r.theta) for r in recipes.values()}
    later = len(steps.classes) * (len({r.region for r in recipes.values()}) + len(unions))
    later += sum(steps.region_passes(m) for m in REGION if m in wanted)
    score_cams = [m for m in SCORE_CAMS if m in wanted]
    of_denoised = yield from _score(steps, score_cams, list(denoised.values()), later)
    confidence = dict(zip(denoised, of_denoised, strict=True))
    for m in REGION:
        if m in wanted:
            made[m] = yield from steps.region_map(m)
    return made | (yield from _fuse(steps, recipes, made, denoised, confidence))


def _fuse(
    steps: Steps[Maps, Confidences],
    recipes: dict[str, Recipe],
    parts: dict[str, Maps],
    denoised: dict[tuple[str, float], Maps],
    of_denoised: dict[tuple[str, float], Confidences],
) -> Work[dict[str, Maps]]:
    """The fused maps, by method; those of the same parts share U."""
    of_regions = {}
    for m in dict.fromkeys(r.region for r in recipes.values()):
        of_regions[m] = yield from steps.confidences(parts[m])
    wanted, made = set(recipes.values()), dict[Recipe, Maps]()
    for gradient, region, theta in dict.fromkeys((r.gradient, r.region, r.theta) for r in recipes.values()):
        noisy, of_region = (gradient, theta), of_regions[region]
        united = steps.unite(denoised[noisy], parts[region], of_denoised[noisy], of_region)
        of_united = yield from steps.confidences(united)
        if (union := Recipe("union_cam", gradient, region, theta)) in wanted:
            made[union] = steps.choose(united, parts[region], of_united, of_region)
        if (fusion := Recipe("fusion_cam", gradient, region, theta)) in wanted:
            made[fusion] = steps.blend(united, parts[region], of_united)
    return {method: made[r] for method, r in recipes.items()}


def _score(
    steps: Steps[Maps, Confidences], score_cams: Sequence[str], also: Sequence[Maps], later: int
) -> Work[Sequence[Confidences]]:
    """The passes of channels, once for each way to enlarge masks; returns the confidences of the maps riding along."""
    if not score_cams:
        return (yield from steps.score_nothing(also, later)) if also else []
    ways = list(dict.fromkeys(SCORE_CAMS[m].corners for m in score_cams))
    of_maps = yield from steps.score_channels(ways[0], also, later, len(ways))
    for n, corners in enumerate(ways[1:], start=1):
        yield from steps.score_channels(corners, [], later, len(ways) - n)
    return of_maps


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
        for m, array in zip(
            found, steps.fetch(maps, "gradients" if method in GRADIENT_MAPS else "logits"), strict=True
        ):
            m.maps[method] = array
    fused = any(recipe(m) for m in methods)
    contributions = steps.contribution_flags() if fused else [(False, False)] * len(found)
    for m, (degenerate, mixed) in zip(found, contributions, strict=True):
        m.flags = [f"flat_{method}" for method, array in m.maps.items() if not array.any()]
        m.flags += ["cut_short"] * (not steps.settled)
        m.flags += ["equal_contributions"] * degenerate + ["mixed_contributions"] * mixed
    return found


def mean(looks: Sequence[ClassMaps]) -> ClassMaps:
    """The maps of several looks at a picture, averaged and brought to [0, 1] again; a flag holds where any raised it.

    `flat_METHOD` is the exception: it holds where the mean is blank.
    """
    if len(looks) == 1:
        return looks[0]
    maps = {m: unit(np.mean([look.maps[m] for look in looks], axis=0)) for m in looks[0].maps}
    flags = [f"flat_{method}" for method, array in maps.items() if not array.any()]
    raised = dict.fromkeys(f for look in looks for f in look.flags if not f.startswith("flat_"))
    return ClassMaps(maps, [*flags, *raised])
