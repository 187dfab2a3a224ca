"""What every method and metric asks of the model about one picture x: what it makes of x * m, or of other pictures."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from fusioncam.kernels.arrays import Array, Float32Array, IndexArray
from fusioncam.kernels.masks import MaskMaker, write
from fusioncam.kernels.reference import log_sum_exp
from fusioncam.runtime.budget.channel_plan import ChannelPlan
from fusioncam.runtime.engine.scheduler import Clock, Fill, Progress, Request, Work

Picture = Callable[[int], Float32Array]
Pictures = Callable[[int, Picture], Work[Float32Array]]
"""`logits = yield from pictures(count, picture)`: logits (count, classes) of picture(0) ... (3, H, W), preprocessed."""


class OfChannels(NamedTuple):
    """What the passes of channels give.

    Attributes:
        maps: Logits (maps, all classes) of the full-size maps that rode along.
        sums: log sum_j exp(f_j(x * M_k)) (K,) over all classes j; NaN where no pass was run.
    """

    maps: Float32Array
    sums: Array


class MaskedPasses:
    """The masked passes of one picture x: every method of the family asks here what the model makes of x * m.

    Args:
        image: x (3, H, W), preprocessed.
        clock: Gets the laps `masked_passes`, and `fusion` for what happens between them.
        progress: Called with (`done`, `total`) after every chunk.

    Attributes:
        size: (H, W).
        done: Passes run so far.
        total: Passes there will be, as far as is known.
    """

    def __init__(self, image: Float32Array, clock: Clock, progress: Progress | None = None) -> None:
        self.image, self.size = image, (image.shape[1], image.shape[2])
        self.done = self.total = 0
        self._clock, self._progress = clock, progress

    def of_maps(self, maps: Sequence[Array]) -> Work[Float32Array]:
        """f(x * m) of full-size maps m (H, W): logits (len(maps), classes)."""
        return self.of_pictures(len(maps), lambda i: self._under(maps[i]))

    def of_pictures(self, count: int, picture: Picture) -> Work[Float32Array]:
        """F of other pictures: see `Pictures`. They are made chunk by chunk."""
        rows: list[Float32Array] = []

        def fill(start: int, stop: int, out: Float32Array) -> None:
            write(map(picture, range(start, stop)), out)

        self.total = max(self.total, self.done + count)
        yield from self._run(count, fill, lambda _, logits: rows.append(logits))
        return _stacked(rows)

    def of_channels(
        self,
        masks: MaskMaker,
        plan: ChannelPlan,
        classes: Sequence[int],
        maps: Sequence[Array],
        later: int,
        blank: Float32Array | None = None,
    ) -> Work[OfChannels]:
        """f_c(x * M_k) of the channels k and classes c that a plan asks for; full-size maps ride along with the first.

        Args:
            masks: Makes the masked pictures.
            plan: Says which channels, and gets their scores.
            classes: Which classes c. The other logits are dropped at once: K x 1000 of them would be many.
            maps: A map of zeros (H, W), unless `blank` is given, and others.
            later: Passes that will be asked for afterwards.
            blank: Logits (all classes,) of the map of zeros.
        """
        sums = np.full(len(masks.scaled), np.nan)
        channels = plan.next(len(maps))
        begun = self.done
        self.total = begun + plan.total + len(maps) + later
        scores, rows = yield from self._of_some(masks, channels, classes, maps, sums)
        of_blank = (rows[0] if blank is None else blank)[classes].astype(np.float64)
        plan.update(scores, of_blank)
        while len(channels := plan.next(0)):
            self.total = begun + plan.total + len(maps) + later
            scores, _ = yield from self._of_some(masks, channels, classes, [], sums)
            plan.update(scores, of_blank)
        self.total = self.done + later
        return OfChannels(rows, sums)

    def _of_some(
        self, masks: MaskMaker, channels: IndexArray, classes: Sequence[int], maps: Sequence[Array], sums: Array
    ) -> Work[tuple[Array, Float32Array]]:
        """The logits (len(channels), len(classes)) of channels, and those (len(maps), all classes) of maps."""
        scores, rows = np.empty((len(channels), len(classes))), []

        def fill(start: int, stop: int, out: Float32Array) -> None:
            some = channels[start:stop]
            masks.fill(some, out[: len(some)])
            after = max(start - len(channels), 0)
            write(self._masked(maps[after : after + len(out) - len(some)]), out[len(some) :])

        def take(start: int, logits: Float32Array) -> None:
            of_channels = logits[: max(len(channels) - start, 0)]
            scores[start : start + len(of_channels)] = of_channels[:, classes]
            some = channels[start : start + len(of_channels)]
            sums[some] = log_sum_exp(of_channels)
            rows.append(logits[len(of_channels) :].copy())  # or the whole chunk would be kept

        yield from self._run(len(channels) + len(maps), fill, take)
        return scores, _stacked(rows)

    def _under(self, m: Array) -> Float32Array:
        return np.asarray(self.image * m.astype(np.float32, copy=False))

    def _masked(self, maps: Sequence[Array]) -> Iterator[Float32Array]:
        return (self._under(m) for m in maps)

    def _run(self, count: int, fill: Fill, take: Callable[[int, Float32Array], None]) -> Work[None]:
        def taken(start: int, logits: Float32Array) -> None:
            take(start, logits)
            self.done += len(logits)
            if self._progress is not None:
                self._progress(self.done, self.total)

        if count:
            self._clock.lap("fusion")
            yield Request(count, fill, taken, self._clock)


def _stacked(rows: Sequence[Float32Array]) -> Float32Array:
    """All rows in one array, which may be none."""
    return np.concatenate(rows) if rows else np.empty((0, 0), np.float32)
