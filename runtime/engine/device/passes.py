"""Masked passes on a GPU: pictures are made where the session reads them, one chunk while another runs."""

from collections import deque
from collections.abc import Callable, Sequence
from itertools import accumulate, product, zip_longest
from typing import Any, NamedTuple

import numpy as np

from fusioncam.kernels.arrays import Array, IndexArray
from fusioncam.kernels.device import Device, DeviceArray
from fusioncam.kernels.specs import masks, reduce
from fusioncam.manifest import Ending
from fusioncam.runtime.budget.channel_plan import ChannelPlan
from fusioncam.runtime.engine.checks import refuse_nan
from fusioncam.runtime.engine.device.buffers import SLOTS, ClassBuffers, PictureBuffers
from fusioncam.runtime.engine.device.run import NO_GRAPH, Run
from fusioncam.runtime.engine.pace import Timer
from fusioncam.runtime.engine.request import ExplainRequest, prepared
from fusioncam.runtime.engine.run_sizes import RunSizes

ENDINGS: dict[Ending, int] = {
    "logits": reduce.SOFTMAX_ENDING,
    "softmax": reduce.SOFTMAX_ENDING,
    "sigmoid": reduce.SIGMOID_ENDING,
    "value": reduce.VALUE_ENDING,
}


class Span(NamedTuple):
    """The pictures of one run.

    Attributes:
        start: The first of them.
        size: Their number, those that do not count included.
        slot: Where they are made.
    """

    start: int
    size: int
    slot: int

    @property
    def stop(self) -> int:
        """Return the first picture after them."""
        return self.start + self.size


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

    Runs hold x * M_k of the live channels, then x * 0, then x * m of full-size maps, then blank pictures. They come in
    chunks of B, the last few in small runs. Two runs at most are given to the GPU and not done.

    Args:
        lanes: Streams.
        picture: Where the pictures and their logits are.
        bind: Binds the score graph to inputs and outputs, as a CUDA graph of a number.
        sizes: How pictures are shared out among runs of B pictures, and small ones.
        ending: How logits become probabilities.
        captured: Whether runs are captured into CUDA graphs.

    Attributes:
        done: Passes run for the picture so far.
        runs: By number of pictures and slot.
    """

    def __init__(
        self,
        lanes: Lanes,
        picture: PictureBuffers,
        bind: Callable[..., Run],
        sizes: RunSizes,
        ending: Ending,
        captured: bool,
    ) -> None:
        self._lanes, self._device, self._picture, self._sizes = lanes, lanes.device, picture, sizes
        self._ending = ENDINGS[ending]
        keys = product(sorted({sizes.chunk, sizes.small}, reverse=True), range(SLOTS))
        self.runs = {
            (size, slot): bind(
                {"image": picture.pictures[slot].rows(0, size)},
                {"logits": picture.chunk_logits[slot].rows(0, size)},
                graph if captured else NO_GRAPH,
            )
            for graph, (size, slot) in enumerate(keys)
        }
        self._count = self.done = self._total = self._live = self._baseline = 0
        self._extra: DeviceArray | None = None
        self._in_flight: deque[tuple[int, int]] = deque()  # events, and passes: given to the GPU, not reported yet

    def begin(self, buffers: ClassBuffers, request: ExplainRequest, timer: Timer) -> None:
        """Turn to another picture, with the targets of its request."""
        self._buffers, self._count, self._timer = buffers, len(prepared(request)[1]), timer
        self._clock, self._progress = request.clock, request.progress
        self.done = 0

    def end(self) -> None:
        """Let go of what belongs to the picture's caller."""
        self._progress = self._extra = None
        self._in_flight.clear()

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
        lanes, device = self._lanes, self._device
        self._live, self._baseline, self._extra = len(channels), baseline, extra
        count = len(channels) + baseline + (0 if extra is None else self._count)
        spans = self.spans(count)
        self._clock.lap("fusion")
        begun = self._clock.now()
        self._send_plan(channels, spans)
        device.record(lanes.begin, lanes.main)
        device.wait(lanes.masks, lanes.begin)
        self._fill(spans[0])
        for span, after in zip_longest(spans, spans[1:]):
            if after is not None:
                self._fill(after)  # before the run: should that block, the masks are made meanwhile
            device.wait(lanes.main, lanes.ready[span.slot])
            self.runs[span.size, span.slot]()
            self._read(span)
            self._launched(span, min(span.size, count - span.start))
        self._land()
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
        for span in self.spans(self._count):
            first, last = span.start, min(span.stop, self._count)
            pictures = self._picture.pictures[span.slot].rows(0, last - first)
            self._mask(maps, b.in_order.rows(first, last), pictures, self._lanes.main)
            self.runs[span.size, span.slot]()
            places = b.in_order.rows(0, last - first)
            self._confidences(span.slot, places, b.classes.rows(first, last), b.unused, found.rows(first, last))
            self._launched(span, last - first)
        self._land()
        self._device.synchronize(self._lanes.main)
        self._clock.lap("masked_passes")
        return found

    def spans(self, count: int) -> list[Span]:
        """Return the runs that pass so many pictures."""
        sizes = self._sizes.of(count)
        starts = accumulate(sizes, initial=0)
        return [Span(start, size, i % SLOTS) for i, (start, size) in enumerate(zip(starts, sizes, strict=False))]

    def _send_plan(self, live: IndexArray, spans: Sequence[Span]) -> None:
        """Send which picture is which, and where in their runs x * 0 (for every class) and the full-size maps are."""
        channels = np.full(self._buffers.channels.shape, -1, np.int32)
        channels[: len(live)] = live
        places = np.full(2 * self._count, len(live), np.int32)
        places[self._count :] += 1 + np.arange(self._count)
        starts = np.array([span.start for span in spans], np.int32)
        places -= starts[np.searchsorted(starts, places, side="right") - 1]
        self._buffers.send("channels", channels, self._lanes.main)
        self._buffers.send("places", places, self._lanes.main)

    def _riding(self, span: Span) -> tuple[int, int]:
        """Return the range of the full-size maps in a run."""
        before = self._live + self._baseline
        most = 0 if self._extra is None else self._count
        return min(max(span.start - before, 0), most), min(max(span.stop - before, 0), most)

    def _fill(self, span: Span) -> None:
        """Make the pictures of a run."""
        b, lane, pictures = self._buffers, self._lanes.masks, self._picture.pictures[span.slot]
        self._device.wait(lane, self._lanes.free[span.slot])
        channels = b.channels.rows(span.start, span.stop)
        self._mask(self._picture.scaled, channels, pictures.rows(0, span.size), lane)
        first, last = self._riding(span)
        if self._extra is not None and first < last:
            place = self._live + self._baseline + first - span.start
            self._mask(self._extra, b.in_order.rows(first, last), pictures.rows(place, place + last - first), lane)
        self._device.record(self._lanes.ready[span.slot], lane)

    def _read(self, span: Span) -> None:
        """Take what is needed from the logits of a run."""
        b, slot = self._buffers, span.slot
        classes, channels = b.classes.rows(0, self._count), b.channels.rows(span.start, span.stop)
        logits, scores = self._picture.chunk_logits[slot].rows(0, span.size), b.scores.rows(0, self._count)
        self._launch(reduce.GATHER, logits=logits, channels=channels, classes=classes, scores=scores)
        if self._baseline and span.start <= self._live < span.stop:
            self._confidences(slot, b.places.rows(0, self._count), classes, b.blank, b.of["blank"])
        first, last = self._riding(span)
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

    def _launched(self, span: Span, passes: int) -> None:
        """Note a run that the GPU was given, once no more than one other is ahead of it."""
        if len(self._in_flight) == SLOTS:
            self._report()
        event = self._lanes.free[span.slot]
        self._device.record(event, self._lanes.main)
        self._in_flight.append((event, passes))

    def _land(self) -> None:
        """Wait for all runs, and report them."""
        while self._in_flight:
            self._report()

    def _report(self) -> None:
        """Wait for the oldest run, and report its passes: progress is real, and its callback can stop the rest."""
        event, passes = self._in_flight.popleft()
        self._device.wait_until(event)
        self.done += passes
        if self._progress is not None:
            self._progress(self.done, self._total)
