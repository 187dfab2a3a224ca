"""The steps of Fusion-CAM on a GPU: only the picture goes in, and only the maps come out."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from fusioncam.kernels.arrays import Array, Float32Array, UInt8Array
from fusioncam.kernels.device import DeviceArray
from fusioncam.kernels.specs import fuse, masks, reduce
from fusioncam.kernels.specs.overlay import OVERLAY
from fusioncam.runtime.budget import Budget, Evidence, plan_for
from fusioncam.runtime.budget.channel_plan import ChannelPlan, ExhaustivePlan, passes_of
from fusioncam.runtime.engine.checks import refuse_nan
from fusioncam.runtime.engine.device.state import DeviceState
from fusioncam.runtime.engine.pace import Timer
from fusioncam.runtime.engine.scheduler import Task, at_once
from fusioncam.runtime.engine.sketches import Sketches
from fusioncam.runtime.explanation import Passes
from fusioncam.runtime.targets.readout import Readout


class DeviceShares(NamedTuple):
    """Contribution shares on the device.

    Attributes:
        of_region: Share of the region map (N,).
        row: Row of the flags.
    """

    of_region: DeviceArray
    row: int


class DeviceSteps:
    """The steps on a GPU, see `Steps`; maps and confidences are device arrays.

    Args:
        state: Buffers, and the sessions bound to them.
        x: The picture (C, H, W).
        readout: That of the targets, which are classes.
        budget: Masked passes to spend.
        timer: Measures the work, and tells what fits before a deadline.
        chunk: Masked pictures per run.
        sketches: Gets the maps as they are made, where somebody watches.
    """

    def __init__(
        self,
        state: DeviceState,
        x: Float32Array,
        readout: Readout,
        budget: Budget,
        timer: Timer,
        chunk: int,
        sketches: Sketches | None = None,
    ) -> None:
        self._timer, self._sketches = timer, sketches
        asked = [t.class_index for t in readout.targets]
        self._device, self._stream, self._count = state.device, state.stream, len(asked)
        self._passes, self._grain, self._budget = state.passes, chunk, budget
        self._plan: ChannelPlan = ExhaustivePlan(np.empty(0, np.intp))
        p, b = self._picture, self._buffers = state.picture, state.classes
        p.send("image", x, self._stream)
        b.send("class_index", asked, self._stream)
        for run in state.explain_runs[: self._count]:
            run()
        self._normalize(p.activations, p.scaled, p.kinds, positive=0)
        channels, height, width = p.activations.shape
        gradients = self._in_use(b.gradients).view(self._count * channels, height * width)
        self._launch(reduce.MEANS, values=gradients, means=self._in_use(b.weights).view(self._count * channels))
        logits, self._kinds = p.receive("logits", self._stream), p.receive("kinds", self._stream)
        means = b.receive("weights", self._stream, self._count)
        self._device.synchronize(self._stream)
        self.logits = logits[0].copy()
        refuse_nan(self.logits, "logits")
        refuse_nan(np.where(self._kinds == masks.BROKEN, np.nan, 0), "activations")
        refuse_nan(means, "gradients")
        self.targets = readout.settled([logits]).targets
        b.send("classes", [t.class_index for t in self.targets], self._stream)

    @property
    def passes(self) -> Passes:
        """Return the masked passes run so far, and the error of the maps that follow."""
        return passes_of(self._passes.done, len(self._kinds), [self._plan])

    def gradient_map(self, method: str) -> DeviceArray:
        """Return G. Its weights are there from the explain pass on, until `region_map` overwrites them."""
        made = self._expanded(self._in_use(self._buffers.weights), "grad_cam", positive=1)
        if self._sketches is not None:
            self._sketches.add(method, self.fetch(made, "gradients"))
        return made

    def denoise(self, gradient: DeviceArray, theta: float) -> DeviceArray:
        """Return the denoised maps D."""
        made = self._map("denoised")
        rank, fraction = fuse.percentile(theta, made.shape[1] * made.shape[2])
        self._launch(fuse.DENOISE, maps=_flat(gradient), out=_flat(made), rank=rank, fraction=fraction)
        return made

    def score_channels(
        self, corners: bool | None, extra_maps: Sequence[DeviceArray], passes_remaining: int, variants_left: int
    ) -> Task[list[DeviceArray]]:
        """Run the masked passes of live channels."""
        live = np.flatnonzero((self._kinds == masks.LIVE) & (corners is not None))
        extra = extra_maps[0] if extra_maps else None  # one gradient method has one map
        others = 1 + len(extra_maps) * self._count + passes_remaining
        if self._sketches is not None and len(live):
            self._sketches.show(self)
        self._timer.begin(passes_remaining, variants_left)
        self._plan = plan_for(self._budget, live, self._evidence, others, self._grain, self._timer)
        confidences = self._passes.of_channels(self._plan, live, extra, self._show_scores)
        self._timer.scored()
        return at_once([] if confidences is None else [confidences])

    def _evidence(self) -> Evidence:
        scaled, activations = (self._picture.receive(name, self._stream) for name in ("scaled", "activations"))
        gradients = self._buffers.receive("gradients", self._stream, self._count)
        self._device.synchronize(self._stream)
        refuse_nan(activations, "activations")
        refuse_nan(gradients, "gradients")
        return Evidence(scaled, activations, list(gradients), [float(t.score or 0) for t in self.targets])

    def region_passes(self, method: str) -> int:
        """Return 0: the passes of Score-CAM are those of channels."""
        return 0

    def region_map(self, method: str, passes_remaining: int) -> Task[DeviceArray]:
        """Return the region maps R."""
        return at_once(self._score_cam())

    def _show_scores(self, put: Callable[[], None]) -> None:
        """Show the map by the scores so far, which `put` writes; all of this is written again before the end."""
        if self._sketches is not None and self._sketches.score_cams(corners=False):
            put()
            self._sketches.add("score_cam", self.fetch(self._score_cam(), "logits"))
            self._sketches.show(self)

    def _score_cam(self) -> DeviceArray:
        b = self._buffers
        scores, weights, blank = (self._in_use(a) for a in (b.scores, b.weights, b.blank))
        self._launch(reduce.SOFTMAX, scores=scores, blank=blank, kinds=self._picture.kinds, weights=weights)
        return self._expanded(weights, "score_cam", positive=0)

    def confidences(self, maps: DeviceArray) -> Task[DeviceArray]:
        """Return p_c(x * m)."""
        return at_once(self._passes.of_maps(maps, self._in_use(self._buffers.of[self._name(maps)])))

    def unite(
        self, denoised: DeviceArray, region: DeviceArray, of_denoised: DeviceArray, of_region: DeviceArray
    ) -> tuple[DeviceArray, DeviceShares]:
        """Return U, and the shares of D and R."""
        b, made = self._buffers, self._map("united")
        self._launch(
            fuse.UNITE, denoised=_flat(denoised), region=_flat(region), of_blank=self._in_use(b.of["blank"]),
            of_denoised=of_denoised, of_region=of_region, region_share=self._in_use(b.region_share),
            flags=self._flags(0), out=_flat(made),
        )  # fmt: skip
        return made, DeviceShares(self._in_use(b.region_share), 0)

    def blend(
        self, united: DeviceArray, region: DeviceArray, of_united: DeviceArray, shares: DeviceShares
    ) -> tuple[DeviceArray, DeviceShares]:
        """Return F, and the shares of U and R."""
        b, made = self._buffers, self._map("fusion_cam")
        self._launch(
            fuse.BLEND, united=_flat(united), region=_flat(region), of_blank=self._in_use(b.of["blank"]),
            of_united=of_united, region_share=shares.of_region, flags=self._flags(1), out=_flat(made),
        )  # fmt: skip
        return made, DeviceShares(shares.of_region, 1)

    def fetch(self, maps: DeviceArray, name: str) -> list[Array]:
        """Return the maps on the host."""
        arrays = self._buffers.receive(self._name(maps), self._stream, self._count)
        self._device.synchronize(self._stream)
        refuse_nan(arrays, name)
        return list(arrays.clip(0, 1))  # a product of float32 may be 1e-7 above 1

    def flags(self, shares: DeviceShares) -> list[tuple[bool, bool]]:
        """Return for each class: degenerate, mixed."""
        flags = self._buffers.receive("flags", self._stream)[shares.row, : self._count]
        self._device.synchronize(self._stream)
        return [(bool(f & fuse.DEGENERATE), bool(f & fuse.MIXED)) for f in flags]

    def overlay(self, maps: DeviceArray, photo: UInt8Array, colors: UInt8Array, opacity: float) -> list[UInt8Array]:
        """Return the maps laid over a photo; only the pictures leave the device."""
        p, (_, height, width) = self._picture, maps.shape
        p.send("photo", photo, self._stream)
        p.send("colors", colors, self._stream)
        pictures = []
        for n in range(self._count):
            self._launch(
                OVERLAY, photo=p.photo.view(height * width, 3), map=maps.rows(n, n + 1).view(height * width),
                colors=p.colors, out=p.overlay.view(height * width, 3), opacity=opacity,
            )  # fmt: skip
            made = p.receive("overlay", self._stream)
            # A map that meets NaN anywhere on its way is NaN everywhere: one pixel tells.
            self._device.download(maps.rows(n, n + 1).pointer, p.probe, self._stream)
            self._device.synchronize(self._stream)
            refuse_nan(p.probe, "gradients or logits")
            pictures.append(made.copy())
        return pictures

    def _expanded(self, weights: DeviceArray, name: str, positive: int) -> DeviceArray:
        """Return unit(relu(up(sum_k w_k A_k))); with `positive`, relu before up, too."""
        b, (channels, height, width) = self._buffers, self._picture.activations.shape
        sums, small, made = self._in_use(b.sums), self._in_use(b.small), self._map(name)
        flat = self._picture.activations.view(channels, height * width)
        flat_sums = sums.view(self._count, height * width)
        self._launch(reduce.WEIGHTED, weights=weights, maps=flat, sums=flat_sums, positive=positive)
        self._normalize(sums, small, self._in_use(b.small_kinds), positive=1)
        self._launch(masks.EXPAND, scaled=small, out=made)
        return made

    def _normalize(self, maps: DeviceArray, scaled: DeviceArray, kinds: DeviceArray, positive: int) -> None:
        p = self._picture
        height, width = p.image.shape[1:]
        self._launch(
            masks.NORMALIZE, maps=maps, rows=p.rows, columns=p.columns, scaled=scaled, kinds=kinds,
            H=height, W=width, positive=positive,
        )  # fmt: skip

    def _launch(self, kernel: Any, **arguments: Any) -> None:
        kernel(self._device, self._stream, **arguments)

    def _in_use(self, array: DeviceArray) -> DeviceArray:
        """Return the rows of a per-class array that are in use."""
        return array.rows(0, self._count)

    def _map(self, name: str) -> DeviceArray:
        return self._in_use(self._buffers.maps[name])

    def _name(self, maps: DeviceArray) -> str:
        return next(name for name, array in self._buffers.maps.items() if array.pointer == maps.pointer)

    def _flags(self, step: int) -> DeviceArray:
        return self._in_use(self._buffers.flags.rows(step, step + 1).view(self._buffers.most))


def _flat(maps: DeviceArray) -> DeviceArray:
    """Return maps (N, H, W) as (N, H W)."""
    return maps.view(maps.shape[0], maps.shape[1] * maps.shape[2])
