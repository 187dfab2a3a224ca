"""Masked passes on a GPU: pictures are made where the session reads them, one chunk while another runs."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnxruntime

from fusioncam.kernels.arrays import Array, IndexArray
from fusioncam.kernels.device import Device, DeviceArray
from fusioncam.kernels.specs import masks, reduce
from fusioncam.manifest import Ending
from fusioncam.runtime.budget.channel_plan import ChannelPlan
from fusioncam.runtime.engine.checks import refuse_nan
from fusioncam.runtime.engine.device.buffers import SLOTS, ClassBuffers, PictureBuffers, Run, bound
from fusioncam.runtime.engine.pace import Timer
from fusioncam.runtime.engine.request import ExplainRequest, prepared

ENDINGS: dict[Ending, int] = {
    "logits": reduce.SOFTMAX_ENDING,
    "softmax": reduce.SOFTMAX_ENDING,
    "sigmoid": reduce.SIGMOID_ENDING,
    "value": reduce.VALUE_ENDING,
}


class Lanes:
    """The stream of the sessions and of most kernels, one beside it for making masks, and what keeps them in step.

    Attributes:
        main: The sessions' stream.
        masks: The stream beside it.
        begin: All that masks are made of is there.
        ready: Per slot: its pictures are made.
        free: Per slot: its pictures have been passed through the model.
    """

    def __init__(self, device: Device, main: int) -> None:
        self.device, self.main, self.masks = device, main, device.stream()
        self.begin = device.event()
        self.ready, self.free = ([device.event() for _ in range(SLOTS)] for _ in range(2))


class DevicePasses:
    """The masked passes of one picture after another, as `MaskedPasses` has them on the host.

    A chunk holds B pictures: x * M_k of the live channels, then x * 0, then x * m of full-size maps, then blank ones.

    Args:
        lanes: Streams.
        picture: Where the pictures and their logits are.
        session: The score graph.
        chunk: B.
        rest: Pictures in a run for a few full-size maps.
        ending: How logits become probabilities.

    Attributes:
        done: Passes run for the picture so far.
    """

    def __init__(
        self,
        lanes: Lanes,
        picture: PictureBuffers,
        session: onnxruntime.InferenceSession,
        chunk: int,
        rest: int,
        ending: Ending,
    ) -> None:
        self._lanes, self._device, self._picture, self._chunk, self._rest = lanes, lanes.device, picture, chunk, rest
        self._ending = ENDINGS[ending]
        self.chunk_runs = [self._bound(session, slot, chunk, graph=slot) for slot in range(SLOTS)]
        self.rest_run = self.chunk_runs[0] if rest == chunk else self._bound(session, 0, rest, graph=SLOTS)
        self._count = self.done = self._total = self._live = self._baseline = 0
        self._extra: DeviceArray | None = None

    def _bound(self, session: onnxruntime.InferenceSession, slot: int, count: int, graph: int) -> Run:
        pictures, logits = (many[slot].rows(0, count) for many in (self._picture.pictures, self._picture.chunk_logits))
        return bound(self._device, session, {"image": pictures}, {"logits": logits}, graph)

    def begin(self, buffers: ClassBuffers, request: ExplainRequest, timer: Timer) -> None:
        """Turn to another picture, with the targets of its request."""
        self._buffers, self._count, self._timer = buffers, len(prepared(request)[1]), timer
        self._clock, self._progress = request.clock, request.progress
        self.done = 0

    def end(self) -> None:
        """Let go of what belongs to the picture's caller."""
        self._progress = self._extra = None

    def of_channels(
        self,
        plan: ChannelPlan,
        live: IndexArray,
        extra: DeviceArray | None,
        updated: Callable[[Callable[[], None]], None] = lambda put: None,
    ) -> DeviceArray | None:
        """Write f_c(x * M_k) of live channels k and all classes c into `scores`; pass the baseline and `extra` too.

        Args:
            plan: Chooses the channels that are passed through the model, and gives the scores of the others.
            live: All live channels.
            extra: N full-size maps m, one per class, whose x * m is passed with the channels.
            updated: Called whenever the plan knows more, with a function that writes the scores so far.

        Returns:
            The confidences p_c(x * m).

        Raises:
            FusionCamError: A logit is NaN or infinite.
        """
        b, main, riding = self._buffers, self._lanes.main, 0 if extra is None else self._count
        expected = self.done + 1 + 3 * riding  # and those of the channels, which the plan revises
        self._total = expected + plan.total
        channels = plan.next(1 + riding)
        scores, blank = self._of_batch(channels, extra, baseline=1)
        plan.update(scores, blank)

        def put() -> None:
            every = np.zeros((self._count, b.scores.shape[1]), np.float32)
            every[:, live] = plan.scores().T
            b.send("scores", every, main)

        updated(put)
        while len(channels := plan.next(0)):
            self._total = expected + plan.total
            scores, _ = self._of_batch(channels, None, baseline=0)
            plan.update(scores, blank)
            updated(put)
        self._total = self.done + 2 * riding
        put()
        return None if extra is None else b.of["denoised"].rows(0, riding)

    def _of_batch(self, channels: IndexArray, extra: DeviceArray | None, baseline: int) -> tuple[Array, Array]:
        """Return the scores (len(channels), N) of some channels, and those of the baseline x * 0 (N,).

        The passes of the baseline and of `extra` are run where they are asked for.
        """
        lanes, device, chunk = self._lanes, self._device, self._chunk
        self._live, self._baseline, self._extra = len(channels), baseline, extra
        riding = 0 if extra is None else self._count
        count = len(channels) + baseline + riding
        self._clock.lap("fusion")
        begun = self._clock.now()
        self._send_plan(channels)
        device.record(lanes.begin, lanes.main)
        device.wait(lanes.masks, lanes.begin)
        self._fill(0)
        for start in range(0, count, chunk):
            slot = start // chunk % SLOTS
            if start + chunk < count:
                self._fill(start + chunk)  # before the run: should that block, the masks are made meanwhile
            device.wait(lanes.main, lanes.ready[slot])
            self.chunk_runs[slot]()
            self._read(start)
            device.record(lanes.free[slot], lanes.main)
            self._report(min(chunk, count - start))
        scores, blanks = (self._buffers.receive(name, lanes.main, self._count) for name in ("scores", "blank"))
        device.synchronize(lanes.main)
        found = scores[:, channels].T.astype(np.float64)
        refuse_nan(blanks, "logits")
        refuse_nan(found, "logits")
        self._clock.lap("masked_passes")
        self._timer.ran(count, begun)
        return found, blanks.astype(np.float64)

    def of_maps(self, maps: DeviceArray, found: DeviceArray) -> DeviceArray:
        """Write p_c(x * m) of full-size maps m, one per class, into `found`; return it."""
        b = self._buffers
        self._clock.lap("fusion")
        few = self._count <= self._rest
        run, size = (self.rest_run, self._rest) if few else (self.chunk_runs[0], self._chunk)
        for first in range(0, self._count, size):
            last = min(first + size, self._count)
            self._mask(
                maps, b.in_order.rows(first, last), self._picture.pictures[0].rows(0, last - first), self._lanes.main
            )
            run()
            places = b.in_order.rows(0, last - first)
            self._confidences(0, places, b.classes.rows(first, last), b.unused, found.rows(first, last))
            self._report(last - first)
        self._device.synchronize(self._lanes.main)
        self._clock.lap("masked_passes")
        return found

    def _send_plan(self, live: IndexArray) -> None:
        """Send which picture is which, and where in their chunks x * 0 (for every class) and the full-size maps are."""
        channels = np.full(self._buffers.channels.shape, -1, np.int32)
        channels[: len(live)] = live
        places = np.full(2 * self._count, len(live), np.int32)
        places[self._count :] += 1 + np.arange(self._count)
        self._buffers.send("channels", channels, self._lanes.main)
        self._buffers.send("places", places % self._chunk, self._lanes.main)

    def _riding(self, start: int) -> tuple[int, int]:
        """Return the range of the full-size maps in the chunk that begins at `start`."""
        first = start - self._live - self._baseline
        most = 0 if self._extra is None else self._count
        return min(max(first, 0), most), min(max(first + self._chunk, 0), most)

    def _fill(self, start: int) -> None:
        """Make the chunk that begins at `start`."""
        b, lane, slot = self._buffers, self._lanes.masks, start // self._chunk % SLOTS
        self._device.wait(lane, self._lanes.free[slot])
        self._mask(
            self._picture.scaled, b.channels.rows(start, start + self._chunk), self._picture.pictures[slot], lane
        )
        first, last = self._riding(start)
        if self._extra is not None and first < last:
            place = self._live + self._baseline + first - start
            self._mask(
                self._extra,
                b.in_order.rows(first, last),
                self._picture.pictures[slot].rows(place, place + last - first),
                lane,
            )
        self._device.record(self._lanes.ready[slot], lane)

    def _read(self, start: int) -> None:
        """Take what is needed from the logits of the chunk that begins at `start`."""
        b, slot = self._buffers, start // self._chunk % SLOTS
        classes, channels = b.classes.rows(0, self._count), b.channels.rows(start, start + self._chunk)
        scores = b.scores.rows(0, self._count)
        self._launch(
            reduce.GATHER, logits=self._picture.chunk_logits[slot], channels=channels, classes=classes, scores=scores
        )
        if self._baseline and start <= self._live < start + self._chunk:
            self._confidences(slot, b.places.rows(0, self._count), classes, b.blank, b.of["blank"])
        first, last = self._riding(start)
        if first < last:
            places = b.places.rows(self._count + first, self._count + last)
            self._confidences(slot, places, classes.rows(first, last), b.unused, b.of["denoised"].rows(first, last))

    def _mask(self, maps: DeviceArray, channels: DeviceArray, out: DeviceArray, stream: int) -> None:
        kernel = masks.MASK[out.dtype]
        kernel(self._device, stream, maps=maps, channels=channels, image=self._picture.image, out=out)

    def _confidences(
        self, slot: int, rows: DeviceArray, classes: DeviceArray, scores: DeviceArray, found: DeviceArray
    ) -> None:
        count = classes.shape[0]
        self._launch(
            reduce.READ, logits=self._picture.chunk_logits[slot], rows=rows, classes=classes,
            scores=scores.rows(0, count), confidences=found.rows(0, count), ending=self._ending,
        )  # fmt: skip

    def _launch(self, kernel: Any, **arguments: Any) -> None:
        kernel(self._device, self._lanes.main, **arguments)

    def _report(self, count: int) -> None:
        self.done += count
        if self._progress is not None:
            self._progress(self.done, self._total)
