"""The steps of Fusion-CAM on a GPU: only the picture goes in, and only the maps come out."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fusioncam.errors import UsageError
from fusioncam.kernels.arrays import Array, Float32Array, UInt8Array
from fusioncam.kernels.device import DeviceArray
from fusioncam.kernels.specs import fuse, masks, reduce
from fusioncam.kernels.specs.overlay import OVERLAY
from fusioncam.runtime.budget import Budget, Evidence, plan_for
from fusioncam.runtime.budget.channel_plan import ChannelPlan, ExhaustivePlan
from fusioncam.runtime.engine.host.scorer import refuse_nan
from fusioncam.runtime.engine.scheduler import Work, at_once
from fusioncam.runtime.explanation import Passes
from fusioncam.runtime.methods import METHODS

if TYPE_CHECKING:
    from fusioncam.runtime.engine.device.engine import DeviceEngine

NO_KERNELS = f"only {', '.join(METHODS)} are made by kernels; ask the engine that `serving` gives for others"


class DeviceSteps:
    """See `Steps`; maps and confidences are device arrays."""

    def __init__(self, engine: "DeviceEngine", x: Float32Array, classes: Sequence[int], budget: Budget) -> None:
        self._device, self._stream, self._count = engine.device, engine.stream, len(classes)
        self._passes, self._grain, self._budget = engine.passes, engine.chunk, budget
        self._plan: ChannelPlan = ExhaustivePlan(np.empty(0, np.intp))
        p, b = self._picture, self._buffers = engine.picture, engine.classes
        p.send("image", x, self._stream)
        b.send("class_index", classes, self._stream)
        for run in engine.explain_runs[: self._count]:
            run()
        self._normalize(p.activations, p.scaled, p.kinds, positive=0)
        channels, height, width = p.activations.shape
        gradients = self._some(b.gradients).view(self._count * channels, height * width)
        self._launch(reduce.MEANS, values=gradients, means=self._some(b.weights).view(self._count * channels))
        logits, self._kinds = p.receive("logits", self._stream), p.receive("kinds", self._stream)
        means = b.receive("weights", self._stream, self._count)
        self._device.synchronize(self._stream)
        self.logits = logits[0].copy()
        refuse_nan(self.logits, "logits")
        refuse_nan(np.where(self._kinds == masks.BROKEN, np.nan, 0), "activations")
        refuse_nan(means, "gradients")
        self.classes = [c if c >= 0 else int(self.logits.argmax()) for c in classes]
        b.send("classes", self.classes, self._stream)

    @property
    def passes(self) -> Passes:
        """Masked passes run so far, and channels."""
        return Passes(self._passes.done, len(self._kinds), self._plan.missing)

    @property
    def settled(self) -> bool:
        """Whether the budget was enough."""
        return self._plan.settled

    def gradient_map(self, method: str) -> DeviceArray:
        """G; the weights are there since the explain pass, and until `region_map`."""
        _refuse_unless(method, "grad_cam")
        return self._expanded(self._some(self._buffers.weights), "grad_cam", positive=1)

    def denoise(self, gradient: DeviceArray, theta: float) -> DeviceArray:
        """D."""
        made = self._map("denoised")
        rank, fraction = fuse.percentile(theta, made.shape[1] * made.shape[2])
        self._launch(fuse.DENOISE, maps=_flat(gradient), out=_flat(made), rank=rank, fraction=fraction)
        return made

    def score_channels(
        self, corners: bool, also: Sequence[DeviceArray], later: int, ways: int
    ) -> Work[list[DeviceArray]]:
        """The masked passes of live channels."""
        live = np.flatnonzero(self._kinds == masks.LIVE)
        maps = also[0] if also else None  # one gradient method has one map
        self._plan = plan_for(self._budget, live, self._evidence, 1 + len(also) * self._count + later, self._grain)
        found = self._passes.of_channels(self._plan, live, maps)
        return at_once([] if found is None else [found])

    def score_nothing(self, also: Sequence[DeviceArray], later: int) -> Work[list[DeviceArray]]:
        """For fusions without Score-CAM."""
        raise UsageError(NO_KERNELS)

    def _evidence(self) -> Evidence:
        scaled, activations = (self._picture.receive(name, self._stream) for name in ("scaled", "activations"))
        gradients = self._buffers.receive("gradients", self._stream, self._count)
        self._device.synchronize(self._stream)
        refuse_nan(activations, "activations")
        refuse_nan(gradients, "gradients")
        return Evidence(scaled, activations, list(gradients), self.logits[self.classes].tolist())

    def region_passes(self, method: str) -> int:
        """None: Score-CAM's are those of channels."""
        return 0

    def region_map(self, method: str) -> Work[DeviceArray]:
        """R."""
        _refuse_unless(method, "score_cam")
        b = self._buffers
        scores, weights, blank = (self._some(a) for a in (b.scores, b.weights, b.blank))
        self._launch(reduce.SOFTMAX, scores=scores, blank=blank, kinds=self._picture.kinds, weights=weights)
        return at_once(self._expanded(weights, "score_cam", positive=0))

    def confidences(self, maps: DeviceArray) -> Work[DeviceArray]:
        """p_c(x * m)."""
        return at_once(self._passes.of_maps(maps, self._some(self._buffers.of[self._name(maps)])))

    def unite(
        self, denoised: DeviceArray, region: DeviceArray, of_denoised: DeviceArray, of_region: DeviceArray
    ) -> DeviceArray:
        """U."""
        b, made = self._buffers, self._map("united")
        self._launch(
            fuse.UNITE, denoised=_flat(denoised), region=_flat(region), of_blank=self._some(b.of["blank"]),
            of_denoised=of_denoised, of_region=of_region, region_share=self._some(b.region_share),
            flags=self._flags(0), out=_flat(made),
        )  # fmt: skip
        return made

    def blend(self, united: DeviceArray, region: DeviceArray, of_united: DeviceArray) -> DeviceArray:
        """F."""
        b, made = self._buffers, self._map("fusion_cam")
        self._launch(
            fuse.BLEND, united=_flat(united), region=_flat(region), of_blank=self._some(b.of["blank"]),
            of_united=of_united, region_share=self._some(b.region_share), flags=self._flags(1), out=_flat(made),
        )  # fmt: skip
        return made

    def choose(
        self, united: DeviceArray, region: DeviceArray, of_united: DeviceArray, of_region: DeviceArray
    ) -> DeviceArray:
        """For Union-CAM."""
        raise UsageError(NO_KERNELS)

    def fetch(self, maps: DeviceArray, what: str) -> list[Array]:
        """The maps on the host."""
        found = self._buffers.receive(self._name(maps), self._stream, self._count)
        self._device.synchronize(self._stream)
        refuse_nan(found, what)
        return list(found.copy())

    def overlay(self, maps: DeviceArray, photo: UInt8Array, colors: UInt8Array, opacity: float) -> list[UInt8Array]:
        """The maps laid over a photo; only the pictures leave the device."""
        p, (_, height, width) = self._picture, maps.shape
        p.send("photo", photo, self._stream)
        p.send("colors", colors, self._stream)
        found = []
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
            found.append(made.copy())
        return found

    def contribution_flags(self) -> list[tuple[bool, bool]]:
        """Degenerate, mixed."""
        flags = self._buffers.receive("flags", self._stream)[:, : self._count]
        self._device.synchronize(self._stream)
        both = np.bitwise_or.reduce(flags, axis=0)
        return [(bool(f & fuse.DEGENERATE), bool(f & fuse.MIXED)) for f in both]

    def _expanded(self, weights: DeviceArray, name: str, positive: int) -> DeviceArray:
        """unit(relu(up(sum_k w_k A_k))); with `positive`, relu before up, too."""
        b, (channels, height, width) = self._buffers, self._picture.activations.shape
        sums, small, made = self._some(b.sums), self._some(b.small), self._map(name)
        flat = self._picture.activations.view(channels, height * width)
        flat_sums = sums.view(self._count, height * width)
        self._launch(reduce.WEIGHTED, weights=weights, maps=flat, sums=flat_sums, positive=positive)
        self._normalize(sums, small, self._some(b.small_kinds), positive=1)
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

    def _some(self, array: DeviceArray) -> DeviceArray:
        """The part of a per-class array that is in use."""
        return array.rows(0, self._count)

    def _map(self, name: str) -> DeviceArray:
        return self._some(self._buffers.maps[name])

    def _name(self, maps: DeviceArray) -> str:
        return next(name for name, array in self._buffers.maps.items() if array.pointer == maps.pointer)

    def _flags(self, step: int) -> DeviceArray:
        return self._some(self._buffers.flags.rows(step, step + 1).view(self._buffers.most))


def _refuse_unless(method: str, known: str) -> None:
    if method != known:
        raise UsageError(NO_KERNELS)


def _flat(maps: DeviceArray) -> DeviceArray:
    """(N, H, W) as (N, H W)."""
    return maps.view(maps.shape[0], maps.shape[1] * maps.shape[2])
