"""The steps of Fusion-CAM on a GPU: only the picture goes in, and only the maps come out."""

import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
import onnxruntime

from fusioncam.errors import FusionCamError, UsageError
from fusioncam.kernels.device import Array, Device, DeviceArray
from fusioncam.kernels.reference import THETA
from fusioncam.kernels.specs import fuse, masks, reduce
from fusioncam.kernels.specs.overlay import OVERLAY
from fusioncam.manifest import Manifest
from fusioncam.runtime.budget import Budget, Evidence, plan_for
from fusioncam.runtime.budget.plan import Everything, Plan
from fusioncam.runtime.buffers import ClassBuffers, PictureBuffers, Run, bound
from fusioncam.runtime.device_passes import DevicePasses, Lanes
from fusioncam.runtime.explanation import Passes
from fusioncam.runtime.image import UInt8Array
from fusioncam.runtime.scoring import input_type, refuse_nan
from fusioncam.runtime.work import Clock, Floats, Found, Progress, Work, at_once, finished

REST = 4  # pictures in a run of the few passes that come one by one: a whole chunk would be a waste
WARM_UP = 3  # runs until onnxruntime has captured a CUDA graph

# Of all engines: while one is made, onnxruntime captures, and memory that another takes would spoil that.
_ALLOCATION = threading.Lock()


class DeviceEngine:
    """Explains pictures on one GPU. Threads that share it take turns; only the one that made it gets CUDA graphs.

    Args:
        device: The GPU.
        stream: The stream that the sessions run on.
        manifest: The bundle's.
        explain: Session of the explain graph.
        score: Session of the score graph.
        chunk: Masked pictures per run, B.
        one_shape: Whether `score` takes chunks of B only.
        captured: Whether runs of `score` are captured into CUDA graphs.

    Raises:
        DeviceError: There is not enough memory.
        FusionCamError: A session does not run.
    """

    def __init__(
        self,
        device: Device,
        stream: int,
        manifest: Manifest,
        explain: onnxruntime.InferenceSession,
        score: onnxruntime.InferenceSession,
        chunk: int,
        one_shape: bool,
        captured: bool = False,
    ) -> None:
        self.device, self.stream, self.manifest, self.captured = device, stream, manifest, captured
        self._explain, self.chunk = explain, chunk
        self._lanes = Lanes(device, stream)
        self._lock, self._owner = threading.Lock(), 0
        with _ALLOCATION:
            self.picture = PictureBuffers(device, manifest, input_type(score), chunk, stream)
            rest = chunk if one_shape else min(REST, chunk)
            self.passes = DevicePasses(self._lanes, self.picture, score, chunk, rest, manifest.ending)
            for run in (*self.passes.chunk_runs, self.passes.rest_run):
                for _ in range(WARM_UP if captured else 1):
                    run()
            self.classes, self.explain_runs = self._for_classes(1)
            self.explain_runs[0]()
            device.synchronize(stream)

    def __del__(self) -> None:
        device = getattr(self, "device", None)  # it destroys its streams when it goes: the sessions on them go first
        vars(self).clear()
        del device

    def _for_classes(self, count: int) -> tuple[ClassBuffers, list[Run]]:
        """Buffers for so many classes, and a run of the explain pass for each."""
        p, b = self.picture, ClassBuffers(self.device, self.manifest, self.chunk, count, self.stream)
        activations = p.activations.view(1, *p.activations.shape)
        return b, [
            bound(
                self.device,
                self._explain,
                {"image": p.image, "class_index": b.class_index.rows(n, n + 1)},
                {"logits": p.logits, "activations": activations, "gradients": b.gradients.rows(n, n + 1)},
            )
            for n in range(count)
        ]

    @contextmanager
    def look(
        self,
        x: Floats,
        classes: Sequence[int],
        clock: Clock,
        progress: Progress | None = None,
        budget: Budget = "exact",
    ) -> Iterator["DeviceSteps"]:
        """Run the explain pass on a preprocessed picture; see `HostEngine.look`.

        Raises:
            UsageError: It is called while it works, by its own progress callback.
        """
        if self._owner == threading.get_ident():
            raise UsageError("an Explainer on a GPU cannot explain from its own progress callback; use another one")
        with self._lock, self.device.entered():
            try:
                self._owner = threading.get_ident()
                if len(classes) > self.classes.most:
                    with _ALLOCATION:  # powers of two, or each number of classes would be a new one
                        self.classes, self.explain_runs = self._for_classes(1 << (len(classes) - 1).bit_length())
                self.passes.begin(self.classes, len(classes), clock, progress)
                steps = DeviceSteps(self, x, classes, budget)
                clock.lap("explain")
                yield steps
            finally:
                self._owner = 0
                self.passes.end()
                for lane in (self._lanes.masks, self.stream):  # what is under way must not meet the next picture
                    with suppress(FusionCamError):
                        self.device.synchronize(lane)

    def finish(self, works: Iterable[Work[Found]]) -> Iterator[Found]:
        """Do the work for many pictures, one after the other: none asks for passes, the steps run them."""
        for work in works:
            yield finished(work)


class DeviceSteps:
    """See `Steps`; maps and confidences are device arrays."""

    def __init__(self, engine: DeviceEngine, x: Floats, classes: Sequence[int], budget: Budget) -> None:
        self._device, self._stream, self._count = engine.device, engine.stream, len(classes)
        self._passes, self._grain, self._budget = engine.passes, engine.chunk, budget
        self._plan: Plan = Everything(np.empty(0, np.intp))
        p, b = self._picture, self._buffers = engine.picture, engine.classes
        p.send("image", x[None], self._stream)
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

    def grad_cam(self) -> DeviceArray:
        """G; the weights are there since the explain pass, and until `score_cam`."""
        return self._expanded(self._some(self._buffers.weights), "grad_cam", positive=1)

    def denoise(self, gradient: DeviceArray) -> DeviceArray:
        """D."""
        made = self._map("denoised")
        rank, fraction = fuse.percentile(THETA, made.shape[1] * made.shape[2])
        self._launch(fuse.DENOISE, maps=_flat(gradient), out=_flat(made), rank=rank, fraction=fraction)
        return made

    def score_channels(self, also: DeviceArray | None) -> Work[DeviceArray | None]:
        """The masked passes of live channels."""
        live = np.flatnonzero(self._kinds == masks.LIVE)
        others = 1 if also is None else 1 + 3 * self._count
        self._plan = plan_for(self._budget, live, self._evidence, others, self._grain)
        return at_once(self._passes.of_channels(self._plan, live, also))

    def _evidence(self) -> Evidence:
        scaled, activations = (self._picture.receive(name, self._stream) for name in ("scaled", "activations"))
        gradients = self._buffers.receive("gradients", self._stream, self._count)
        self._device.synchronize(self._stream)
        refuse_nan(activations, "activations")
        refuse_nan(gradients, "gradients")
        return Evidence(scaled, activations, list(gradients), self.logits[self.classes].tolist())

    def score_cam(self) -> DeviceArray:
        """R."""
        b = self._buffers
        scores, weights, blank = (self._some(a) for a in (b.scores, b.weights, b.blank))
        kinds = self._picture.kinds.view(1, *self._picture.kinds.shape)
        self._launch(reduce.SOFTMAX, scores=scores, blank=blank, kinds=kinds, weights=weights)
        return self._expanded(weights, "score_cam", positive=0)

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

    def fetch(self, maps: DeviceArray, what: str) -> list[Array]:
        """The maps on the host."""
        found = self._buffers.receive(self._name(maps), self._stream, self._count)
        self._device.synchronize(self._stream)
        refuse_nan(found, what)
        return list(found.copy())

    def overlay(self, maps: DeviceArray, photo: UInt8Array, colors: UInt8Array, opacity: float) -> list[UInt8Array]:
        """The maps laid over a photo; only the pictures leave the device."""
        p, (_, height, width) = self._picture, maps.shape
        p.send("photo", photo[None], self._stream)
        p.send("colors", colors, self._stream)
        found = []
        for n in range(self._count):
            self._launch(
                OVERLAY, photos=p.photo.view(1, height * width, 3), maps=_flat(maps.rows(n, n + 1)), colors=p.colors,
                out=p.overlay.view(1, height * width, 3), opacity=opacity,
            )  # fmt: skip
            made = p.receive("overlay", self._stream)
            # A map that meets NaN anywhere on its way is NaN everywhere: one pixel tells.
            self._device.download(maps.rows(n, n + 1).pointer, p.probe, self._stream)
            self._device.synchronize(self._stream)
            refuse_nan(p.probe, "gradients or logits")
            found.append(made[0].copy())
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
        flat, flat_sums = (
            self._picture.activations.view(1, channels, height * width),
            sums.view(self._count, height * width),
        )
        self._launch(reduce.WEIGHTED, weights=weights, maps=flat, sums=flat_sums, positive=positive)
        self._normalize(sums, small, self._some(b.small_kinds), positive=1)
        self._launch(masks.EXPAND, scaled=small, out=made)
        return made

    def _normalize(self, maps: DeviceArray, scaled: DeviceArray, kinds: DeviceArray, positive: int) -> None:
        p = self._picture
        height, width = p.image.shape[2:]
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


def _flat(maps: DeviceArray) -> DeviceArray:
    """(N, H, W) as (N, H W)."""
    return maps.view(maps.shape[0], maps.shape[1] * maps.shape[2])
