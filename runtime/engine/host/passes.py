"""The masked passes of one picture x, for methods and metrics: the answers to x * m, or to other pictures."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from fusioncam.kernels.arrays import Array, Float32Array, IndexArray
from fusioncam.kernels.masks import MaskMaker, write
from fusioncam.runtime.budget.channel_plan import ChannelPlan
from fusioncam.runtime.engine.pace import Timer
from fusioncam.runtime.engine.progress import Clock, Progress
from fusioncam.runtime.engine.scheduler import PassRequest, Task
from fusioncam.runtime.picture_inputs import NO_INPUTS, PictureInputs
from fusioncam.runtime.targets.readout import LOGITS, Readout

Picture = Callable[[int], Float32Array]
Pictures = Callable[[int, Picture], Task[Float32Array]]
"""`answers = yield from pictures(count, picture)`: see `Readout`, (count, width), of picture(0) ... (C, H, W)."""


class ChannelAnswers(NamedTuple):
    """The results of the passes of channels.

    Attributes:
        maps: Answers (maps, width) to the full-size maps that were passed with the channels.
        extras: `Readout.extras` (K, E) of the channels; NaN where no pass was run.
    """

    maps: Float32Array
    extras: Array


class MaskedPasses:
    """The masked passes of one picture x, for every method of the family.

    Args:
        image: x (C, H, W), preprocessed.
        clock: Gets the laps `masked_passes`, and `fusion` for what happens between them.
        progress: Called with (`done`, `total`) after every chunk.
        exact: Whether full-size maps are passed through the explain graph: with int8 scores, where the confidences of
            two maps nearly cancel, rounding would decide the sign of their shares.
        timer: Told of every batch.
        readout: That of the targets; by default an answer holds all logits.
        inputs: Further inputs of x.

    Attributes:
        size: (H, W).
        done: Passes run so far.
        total: Passes expected in all.
    """

    def __init__(
        self,
        image: Float32Array,
        clock: Clock,
        progress: Progress | None = None,
        exact: bool = False,
        timer: Timer | None = None,
        readout: Readout = LOGITS,
        inputs: PictureInputs = NO_INPUTS,
    ) -> None:
        self.readout, self.inputs = readout, inputs
        self.image, self.size, self.exact = image, image.shape[1:], exact
        self.done = self.total = 0
        self._clock, self._progress, self._timer = clock, progress, timer

    def of_maps(self, maps: Sequence[Array]) -> Task[Float32Array]:
        """Return the answers to x * m, m full-size maps (H, W)."""
        return self.of_pictures(len(maps), lambda i: self._under(maps[i]), self.exact)

    def of_pictures(self, count: int, picture: Picture, exact: bool = False) -> Task[Float32Array]:
        """Return the answers to other pictures, see `Pictures`, made chunk by chunk; `exact` as in `PassRequest`."""
        rows: list[Float32Array] = []

        def fill(start: int, stop: int, out: Float32Array) -> None:
            write(map(picture, range(start, stop)), out)

        self.total = max(self.total, self.done + count)
        yield from self._run(count, fill, lambda _, answers: rows.append(answers), exact)
        return _stacked(rows)

    def of_masks(
        self,
        numbers: range,
        mask: Callable[[int], Float32Array],
        take: Callable[[list[Float32Array], Float32Array], None],
        readout: Readout,
    ) -> Task[None]:
        """Pass x * mask(n) for each number n; hand the masks of every chunk over, with the answers of a readout."""
        made: dict[int, list[Float32Array]] = {}  # by their start: several chunks may be under way

        def fill(start: int, stop: int, out: Float32Array) -> None:
            made[start] = [mask(n) for n in numbers[start:stop]]
            write(map(self._under, made[start]), out)

        return self._run(len(numbers), fill, lambda start, answers: take(made.pop(start), answers), readout=readout)

    def of_channels(
        self,
        masks: MaskMaker,
        plan: ChannelPlan,
        maps: Sequence[Array],
        remaining: int,
        baseline: Float32Array | None = None,
        updated: Callable[[ChannelAnswers], None] = lambda found: None,
    ) -> Task[ChannelAnswers]:
        """Pass the channels k that a plan asks for, and full-size maps with the first; give scores of x * M_k to it.

        Maps that pass through another graph (see `exact`) go before the channels.

        Args:
            masks: Makes the masked pictures.
            plan: Chooses the channels, and gets their scores.
            maps: Full-size maps (H, W); the first one is of zeros, unless `baseline` is given.
            remaining: Passes that later steps will ask for.
            baseline: The answer (1, width) to the map of zeros.
            updated: Called with what is known so far, whenever the plan knows more.
        """
        extras = np.full((len(masks.scaled), self.readout.extra_count), np.nan)
        expected = self.done + len(maps) + remaining  # and those of the channels, which the plan revises
        self.total = expected + plan.total
        apart, riding = (maps, []) if self.exact else ([], maps)
        rows_apart = yield from self.of_maps(apart)
        channels = plan.next(len(riding))
        scores, rows = yield from self._of_batch(masks, channels, riding, extras)
        rows = rows_apart if self.exact else rows
        of_baseline = self.readout.scores(rows[:1] if baseline is None else baseline)[0]
        plan.update(scores, of_baseline)
        found = ChannelAnswers(rows, extras)
        updated(found)
        while len(channels := plan.next(0)):
            self.total = expected + plan.total
            scores, _ = yield from self._of_batch(masks, channels, [], extras)
            plan.update(scores, of_baseline)
            updated(found)
        self.total = self.done + remaining
        return found

    def again(self, masks: MaskMaker, channels: IndexArray, extras: Array, remaining: int) -> Task[Array]:
        """Return the exact scores (n, T) of channels, and write those of `ChannelAnswers` into `extras`."""
        self.total = self.done + len(channels) + remaining
        scores, _ = yield from self._of_batch(masks, channels, [], extras, exact=True)
        return scores

    def _of_batch(
        self,
        masks: MaskMaker,
        channels: IndexArray,
        maps: Sequence[Array],
        extras: Array,
        exact: bool = False,
    ) -> Task[tuple[Array, Float32Array]]:
        """Return the scores (len(channels), T) of channels, and the answers (len(maps), width) to maps."""
        scores, rows = np.empty((len(channels), len(self.readout.targets))), []

        def fill(start: int, stop: int, out: Float32Array) -> None:
            batch = channels[start:stop]
            masks.fill(batch, out[: len(batch)])
            after = max(start - len(channels), 0)
            write(map(self._under, maps[after : after + len(out) - len(batch)]), out[len(batch) :])

        def take(start: int, answers: Float32Array) -> None:
            of_channels = answers[: max(len(channels) - start, 0)]  # not kept: K x 1000 logits would be many
            scores[start : start + len(of_channels)] = self.readout.scores(of_channels)
            extras[channels[start : start + len(of_channels)]] = self.readout.extras(of_channels)
            rows.append(answers[len(of_channels) :].copy())  # or the whole chunk would be kept

        yield from self._run(len(channels) + len(maps), fill, take, exact)
        return scores, _stacked(rows)

    def _under(self, m: Array) -> Float32Array:
        return np.asarray(self.image * m.astype(np.float32, copy=False))

    def _run(
        self,
        count: int,
        fill: Callable[[int, int, Any], None],
        take: Callable[[int, Float32Array], None],
        exact: bool = False,
        readout: Readout | None = None,
    ) -> Task[None]:
        def taken(start: int, answers: Float32Array) -> None:
            take(start, answers)
            self.done += len(answers)
            if self._progress is not None:
                self._progress(self.done, self.total)

        if count:
            self._clock.lap("fusion")
            begun = self._clock.now()
            yield PassRequest(count, fill, taken, self._clock, exact, readout or self.readout, self.inputs)
            if self._timer is not None and not exact:
                self._timer.ran(count, begun)


def _stacked(rows: Sequence[Float32Array]) -> Float32Array:
    """Return all rows in one array; there may be none."""
    return np.concatenate(rows) if rows else np.empty((0, 0), np.float32)
