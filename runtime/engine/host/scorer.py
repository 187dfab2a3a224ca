"""Forward passes of many pictures, in chunks: memory is bounded by the chunk, never by the number of pictures."""

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import onnxruntime

from fusioncam.errors import NotFiniteError
from fusioncam.forms import Form, form_of
from fusioncam.kernels.arrays import Array, Float32Array, Size
from fusioncam.kernels.masks import Deferred
from fusioncam.runtime.engine.checks import refuse_nan
from fusioncam.runtime.engine.host.chunks import Chunk, MaskChunk, PictureChunk
from fusioncam.runtime.engine.scheduler import IN_FLIGHT, RunningTask, Scheduler
from fusioncam.runtime.picture_inputs import NO_INPUTS, PictureInputs
from fusioncam.runtime.sessions.run import run, run_targets
from fusioncam.runtime.targets.readout import READOUTS, Readout

LOGITS_FORM = form_of("classify", 1, None)
GRAIN = 8  # pictures between two guesses, where short chunks cost nothing; a measured chunk would change the map


class Part(NamedTuple):
    """The pictures of one task in a run: the task, their rows, the readout of its targets, and its further inputs."""

    task: RunningTask[Any]
    rows: slice
    readout: Readout
    inputs: PictureInputs


class Scorer:
    """Runs the score graph on pictures that are made chunk by chunk.

    Safe to share between threads: every call has buffers of its own.

    Args:
        session: The score graph: `image` (N, C, H, W), with the tensors of targets, to the outputs of a `Readout`.
        shape: (C, H, W).
        chunk: Pictures per run.
        pad: Whether a last, smaller chunk is filled up, so that the session sees one shape only. A new shape is
            costly on a GPU, while on the CPU the filling is.
        dtype: Type of the session's `image`, float32 or float16.
        grids: (h, w) of the masks of each level, where the session's graph is that of `masked_graph`; by default it
            takes pictures.
        explain: Session of the explain graph, for requests of exact passes, see `PassRequest`.
        singly: Whether graphs want fixed sizes: the explain graph takes one picture per run, the other one target.
        form: The normal form of the model's outputs, and the tensors of its targets.
        trial: Further inputs to try the session with.

    Attributes:
        session: See above.
    """

    def __init__(
        self,
        session: onnxruntime.InferenceSession,
        shape: Size,
        chunk: int,
        pad: bool,
        dtype: npt.DTypeLike = np.float32,
        grids: Sequence[Size] = (),
        explain: onnxruntime.InferenceSession | None = None,
        singly: bool = False,
        form: Form = LOGITS_FORM,
        trial: PictureInputs = NO_INPUTS,
    ) -> None:
        self.session, self._shape, self.chunk, self.pad = session, shape, chunk, pad
        self._explain, self._singly, self._form, self._trial = explain, singly, form, trial
        self._buffers: Callable[[], Chunk] = partial(MaskChunk, grids) if grids else partial(PictureChunk, shape, dtype)

    @property
    def grain(self) -> int:
        """Return how many pictures are best passed before the next guess, which depends on them."""
        return self.chunk if self.pad else GRAIN

    def scheduler(self, most: int = IN_FLIGHT) -> Scheduler[Any]:
        """Return a scheduler for so many tasks, which share chunks, with buffers of its own."""
        buffers = {False: self._buffers(), True: PictureChunk(self._shape, np.float32)}
        return Scheduler(partial(self._run_chunk, buffers), self.chunk, most)

    def try_out(self, count: int) -> None:
        """Pass a blank picture `count` times through the session, to be timed."""
        buffers = self._buffers()
        rows = buffers.rows(count)
        if isinstance(rows, Deferred):
            rows.put([np.zeros(self._shape, np.float32)] * count, 1)
        targets = self._form.placeholders(1) if self._form.scored else {}
        feeds = {**buffers.feeds(rows, count), **targets, **self._trial.repeated(count)}
        run(self.session, READOUTS[self._form.kind].outputs, feeds)

    def _run_chunk(self, chunks: Mapping[bool, Chunk], running: Collection[RunningTask[Any]]) -> int:
        """Run a session once, with as many of the tasks' pictures as fit and go through it; see `Scheduler`."""
        start = time.perf_counter()
        exact, tasks = _through_one_session(running)
        buffers = chunks[exact]
        count = min(self.chunk, sum(task.passes_wanted for task in tasks))
        pictures = buffers.rows(self.chunk if self.pad and not exact else count)
        parts, end = list[Part](), 0
        for task in tasks:
            if size := min(task.passes_wanted, count - end):
                readout, inputs = task.asked_for
                with np.errstate(over="ignore"):  # what float16 does not hold shows in the logits
                    if not task.fill(pictures[end : end + size]):
                        continue
                parts.append(Part(task, slice(end, end + size), readout, inputs))
                end += size
        if not parts:
            return 0
        answers = (self._exact if exact else self._scored)(
            {**buffers.feeds(pictures, end), **_further(parts, len(pictures))}, parts
        )  # the feeds are gone by now: they may hold every picture of the chunk
        seconds = (time.perf_counter() - start) / end
        for (task, rows, readout, _), of_part in zip(parts, answers, strict=True):
            try:
                refuse_nan(of_part, readout.outputs[0])
            except NotFiniteError as error:  # of this task's picture; the others are as they should be
                task.fail(error)
            else:
                task.take(of_part, seconds * (rows.stop - rows.start))
        return end

    def _scored(self, feeds: dict[str, Any], parts: Sequence[Part]) -> list[Float32Array]:
        """Return the answers of each part by the score graph, which gets the targets of all parts."""
        tensors = [part.readout.tensors for part in parts]
        together = {name: np.concatenate([of_part[name] for of_part in tensors]) for name in tensors[0]}
        outputs = run_targets(self.session, parts[0].readout.outputs, feeds, together, self._singly)
        answers, first = [], 0
        for part in parts:
            count = len(part.readout.rows)
            columns = slice(first, first + count) if together else slice(None)
            answers.append(part.readout.answers([np.asarray(of_all)[part.rows, columns] for of_all in outputs]))
            first += count
        return answers

    def _exact(self, feeds: dict[str, Any], parts: Sequence[Part]) -> list[Float32Array]:
        """Return the answers of each part by the explain graph, which leaves its gradients out."""
        assert self._explain is not None, "an engine of int8 bundles gives it"
        options = onnxruntime.RunOptions()
        options.only_execute_path_to_fetches = True
        count = len(feeds["image"])
        step = 1 if self._singly else count
        batches = [{name: rows[n : n + step] for name, rows in feeds.items()} for n in range(0, count, step)]
        form = np.concatenate([
            run(self._explain, [self._form.output.name], {**batch, **self._form.placeholders(step)}, options)[0]
            for batch in batches
        ])  # fmt: skip
        return [part.readout.of_form(form[part.rows]) for part in parts]


def _further(parts: Sequence[Part], count: int) -> dict[str, Array]:
    """Return the further inputs of a run of so many pictures: of each part, those of its picture; then any."""
    sizes = [part.rows.stop - part.rows.start for part in parts]
    sizes[-1] += count - sum(sizes)
    repeated = [part.inputs.repeated(size) for part, size in zip(parts, sizes, strict=True)]
    return {name: np.concatenate([of_part[name] for of_part in repeated]) for name in repeated[0]}


def _through_one_session(running: Iterable[RunningTask[Any]]) -> tuple[bool, list[RunningTask[Any]]]:
    """Return whether the oldest task that waits wants exact passes, and all tasks that want the same."""
    waiting = [(task.pass_request.exact, task) for task in running if task.pass_request is not None]
    exact = bool(waiting) and waiting[0][0]
    return exact, [task for wants, task in waiting if wants == exact]
