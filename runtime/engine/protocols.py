"""Protocols of the engines: what the recipe and the pipeline need of an engine, on the host or on a GPU."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, Protocol, TypeVar

from fusioncam.kernels.arrays import Array, Float32Array, UInt8Array
from fusioncam.runtime.engine.pace import Pace
from fusioncam.runtime.engine.request import ExplainRequest
from fusioncam.runtime.engine.scheduler import IN_FLIGHT, Scheduler, Task
from fusioncam.runtime.explanation import Passes
from fusioncam.runtime.picture_inputs import NO_INPUTS, PictureInputs
from fusioncam.runtime.targets.resolved import ResolvedTarget
from fusioncam.runtime.targets.sight import Outputs

Maps = TypeVar("Maps")
Confidences = TypeVar("Confidences")
Shares = TypeVar("Shares")


class Steps(Protocol[Maps, Confidences, Shares]):
    """The steps of arXiv 2603.05386 and its family for one picture x and N targets, which share masked passes.

    A batch of N maps (H, W), one per target, N confidences and N contribution shares stay where they are computed: on
    the host or on a GPU. An engine is asked for methods that it supports only, see `Engine.supports`.
    """

    @property
    def targets(self) -> Sequence[ResolvedTarget]:
        """Return the targets, with their scores and confidences of x."""

    @property
    def logits(self) -> Float32Array | None:
        """Return f(x) (all classes,); None where the outputs are no vector."""

    @property
    def passes(self) -> Passes:
        """Return the masked passes run so far, and the error of the maps that follow."""

    def gradient_map(self, method: str) -> Maps:
        """Step 1: return G, or another gradient method's map."""

    def denoise(self, gradient: Maps, theta: float) -> Maps:
        """Step 1: return D."""

    def score_channels(
        self, corners: bool | None, extra_maps: Sequence[Maps], passes_remaining: int, variants_left: int
    ) -> Task[Sequence[Confidences]]:
        """Step 2: run the masked passes of the channels that matter, of the baseline x * 0 and of `extra_maps`.

        Args:
            corners: How masks are enlarged, see `ScoreCam`; None where no Score-CAM is asked for: no channel is passed.
            extra_maps: Full-size maps m, whose x * m is passed with the channels.
            passes_remaining: Passes that later steps will ask for, those of channels apart.
            variants_left: Ways to enlarge masks that still come, this one and RISE included: they share the budget.

        Returns:
            The confidences of x * m, in their order.
        """

    def region_passes(self, method: str) -> int:
        """Return the number of passes that `region_map` will ask for."""

    def region_map(self, method: str, passes_remaining: int) -> Task[Maps]:
        """Step 2: return R, or another region method's map; a Score-CAM's after `score_channels`.

        Args:
            method: The method.
            passes_remaining: Passes that the fusions will ask for.
        """

    def confidences(self, maps: Maps) -> Task[Confidences]:
        """Step 3: return the confidences of x * m, by one more pass for each map."""

    def unite(
        self, denoised: Maps, region: Maps, of_denoised: Confidences, of_region: Confidences
    ) -> tuple[Maps, Shares]:
        """Step 3: return U, and the shares that D and R have in the gain over x * 0."""

    def blend(self, united: Maps, region: Maps, of_united: Confidences, shares: Shares) -> tuple[Maps, Shares]:
        """Step 4: return F, and the shares of U and R; the share of R from `unite` is normalised again."""

    def fetch(self, maps: Maps, name: str) -> Sequence[Array]:
        """Return the maps as arrays (H, W) on the host.

        Raises:
            FusionCamError: The maps hold NaN, because `name` (gradients or logits) does.
        """

    def flags(self, shares: Shares) -> Sequence[tuple[bool, bool]]:
        """Return for each target: True where its shares are undefined, and True where they differ in sign."""

    def overlay(self, maps: Maps, photo: UInt8Array, colors: UInt8Array, opacity: float) -> Sequence[UInt8Array]:
        """Return the maps laid over one photo (H, W, 3), on the host; see `reference.overlay`."""


class UnionSteps(Steps[Maps, Confidences, Shares], Protocol[Maps, Confidences, Shares]):
    """The steps of an engine that supports Union-CAM."""

    def choose(self, united: Maps, region: Maps, of_united: Confidences, of_region: Confidences) -> Maps:
        """Return the map of Union-CAM: U or R, the one with the higher confidence."""


class LevelSteps(NamedTuple):
    """The steps of the targets that one level of the model explains; of most models, there is one level.

    Attributes:
        layer: The name of its layer.
        numbers: The numbers of the targets.
        steps: Their steps.
    """

    layer: str
    numbers: Sequence[int]
    steps: Steps[Any, Any, Any]


class Forward(NamedTuple):
    """The explain pass of a picture.

    Attributes:
        targets: The targets, with their scores and confidences.
        logits: f(x) (all classes,); None where the outputs are no vector.
        channels: K, of all levels that explain a target.
        levels: The steps that follow, one level after the other: a level gets what those before it left of a budget.
    """

    targets: Sequence[ResolvedTarget]
    logits: Float32Array | None
    channels: int
    levels: Iterator[LevelSteps]


class Engine(Protocol):
    """Explains pictures on some hardware. Safe to share between threads."""

    @property
    def chunk(self) -> int:
        """Return the number of masked pictures per run."""

    @property
    def pace(self) -> Pace:
        """Return what its work has cost lately."""

    @property
    def providers(self) -> tuple[str, ...]:
        """Return the short names of the providers that run the graphs, in order of preference."""

    def supports(self, methods: Sequence[str], verify: bool = False) -> bool:
        """Return True where the engine can make all these methods, and pass the pictures of a verdict with `verify`."""

    def read(self, x: Float32Array, inputs: PictureInputs = NO_INPUTS) -> Outputs:
        """Return the outputs for a preprocessed picture x (C, H, W) with its further inputs, in the normal form.

        Raises:
            FusionCamError: The model cannot be run, or gives NaN or infinity.
        """

    def forward(self, request: ExplainRequest) -> AbstractContextManager[Forward]:
        """Run the explain pass of a preprocessed picture x (C, H, W), for given targets; its steps go on from there.

        Raises:
            FusionCamError: The model cannot be run, or gives NaN or infinity.
        """

    def scheduler(self, most: int = IN_FLIGHT) -> Scheduler[Any]:
        """Return a scheduler for at most so many tasks at a time, with buffers of its own; for one thread."""
