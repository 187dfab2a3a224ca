"""What every method asks of the model about one picture x: what it makes of x * m."""

from collections.abc import Callable, Sequence

import numpy as np

from fusioncam.kernels.masks import Indices, MaskMaker, fill_with
from fusioncam.runtime.budget.plan import Plan
from fusioncam.runtime.work import Array, Clock, Fill, Floats, Progress, Request, Work


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

    def __init__(self, image: Floats, clock: Clock, progress: Progress | None = None) -> None:
        self.image, self.size = image, (image.shape[1], image.shape[2])
        self.done = self.total = 0
        self._clock, self._progress = clock, progress

    def of_maps(self, maps: Sequence[Array]) -> Work[Floats]:
        """f(x * m) of full-size maps m (H, W): logits (len(maps), classes)."""
        rows: list[Floats] = []

        def fill(start: int, stop: int, out: Floats) -> None:
            fill_with(maps[start:stop], self.image, out)

        yield from self._run(len(maps), fill, lambda _, logits: rows.append(logits))
        return np.concatenate(rows)

    def of_channels(
        self, masks: MaskMaker, plan: Plan, classes: Sequence[int], maps: Sequence[Array], later: int
    ) -> Work[Floats]:
        """f_c(x * M_k) of the channels k and classes c that a plan asks for; full-size maps ride along with the first.

        Args:
            masks: Makes the masked pictures.
            plan: Says which channels, and gets their scores.
            classes: Which classes c. The other logits are dropped at once: K x 1000 of them would be many.
            maps: A map of zeros (H, W), and others.
            later: Passes that will be asked for afterwards.

        Returns:
            The logits (len(maps), all classes) of the maps.
        """
        channels = plan.next(len(maps))
        self.total = plan.total + len(maps) + later
        scores, rows = yield from self._of_some(masks, channels, classes, maps)
        blank = rows[0, classes].astype(np.float64)
        plan.tell(scores, blank)
        while len(channels := plan.next(0)):
            self.total = plan.total + len(maps) + later
            scores, _ = yield from self._of_some(masks, channels, classes, [])
            plan.tell(scores, blank)
        self.total = self.done + later
        return rows

    def _of_some(
        self, masks: MaskMaker, channels: Indices, classes: Sequence[int], maps: Sequence[Array]
    ) -> Work[tuple[Array, Floats]]:
        """The logits (len(channels), len(classes)) of channels, and those (len(maps), all classes) of maps."""
        scores, rows = np.empty((len(channels), len(classes))), []

        def fill(start: int, stop: int, out: Floats) -> None:
            some = channels[start:stop]
            masks.fill(some, out[: len(some)])
            after = max(start - len(channels), 0)
            fill_with(maps[after : after + len(out) - len(some)], self.image, out[len(some) :])

        def take(start: int, logits: Floats) -> None:
            of_channels = scores[start : start + len(logits)]
            of_channels[:] = logits[: len(of_channels), classes]
            rows.append(logits[len(of_channels) :].copy())  # or the whole chunk would be kept

        yield from self._run(len(channels) + len(maps), fill, take)
        return scores, np.concatenate(rows)

    def _run(self, count: int, fill: Fill, take: Callable[[int, Floats], None]) -> Work[None]:
        def taken(start: int, logits: Floats) -> None:
            take(start, logits)
            self.done += len(logits)
            if self._progress is not None:
                self._progress(self.done, self.total)

        if count:
            self._clock.lap("fusion")
            yield Request(count, fill, taken, self._clock)
