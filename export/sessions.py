"""onnxruntime sessions for exporting: on the CPU, silent, within a time limit, and with errors that name the cause."""

import logging
import re
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime
from google.protobuf.message import EncodeError

from fusioncam.errors import LESS_MEMORY, FusionCamError, ModelError, first_line, out_of_memory
from fusioncam.kernels.arrays import Array
from fusioncam.libraries import require_version
from fusioncam.quirks import CRASHING_OPTIMIZERS

require_version("onnxruntime", onnxruntime.__version__)

# For one run on a few pictures. A slower model could not be explained by hundreds of runs, either.
RUN_SECONDS = 50.0
REMEDY = "export on a machine with more, or free some of it"

# Codes, places in its source and the path, which onnxruntime puts before its message.
NOISE = re.compile(
    r"\[ONNXRuntimeError\] : \d+ : \w+ : |Load model from .*? failed:|"
    r"/onnxruntime_src/\S+:\d+ .*?\) (?=[A-Z\[]|status)|status\.IsOK\(\) was false\. "
)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep log lines and warnings of the libraries inside from the user, who gets one line of ours instead."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def root(error: BaseException) -> BaseException:
    """Return the first exception of a chain, or one of ours: libraries wrap the specific one in general advice."""
    while error.__cause__ is not None and not isinstance(error, FusionCamError):
        error = error.__cause__
    return error


@contextmanager
def failing_as(
    describe: Callable[[str], FusionCamError],
    passing: tuple[type[Exception], ...] = (FusionCamError,),
    remedy: str = LESS_MEMORY,
) -> Iterator[None]:
    """Raise one of our errors for any exception inside: those of onnx and onnxruntime share no base class.

    Args:
        describe: Makes the error from the first line of the exception that `root` returns.
        passing: Exceptions that stay as they are.
        remedy: The remedy where memory ran out.

    Raises:
        OutOfMemoryError: There is not enough memory.
    """
    try:
        yield
    except passing:
        raise
    except Exception as error:
        first = root(error)
        raise out_of_memory(first, remedy) or describe(first_line(first)) from error


def silence_default_logger() -> None:
    """Keep from stderr what onnxruntime logs outside of sessions: the error line of a command says the same."""
    onnxruntime.set_default_logger_severity(4)


class CannotRunError(ModelError):
    """An error for a model that onnxruntime loads, but cannot run on this batch."""


class Session(onnxruntime.InferenceSession):  # type: ignore[misc]
    """A session whose runs take at most `RUN_SECONDS`; then, or without memory, it raises this project's errors.

    Attributes:
        patience: How many times that long, for a graph that passes many pictures in one run.
    """

    patience = 1

    @cached_property
    def _by_picture(self) -> list[str]:
        """Return the inputs with a row for each picture, of a graph of the canonical form that takes one picture."""
        firsts = {i.name: next(iter(i.shape), None) for i in self.get_inputs()}
        return [n for n, d in firsts.items() if d in (1, "N")] if firsts.get("image") == 1 else []

    def run(self, output_names: Any, input_feed: Any, run_options: Any = None) -> list[Any]:
        """Run on arrays, as the method of onnxruntime; a graph that takes one picture runs once for each."""
        own = [n for n in self._by_picture if n in input_feed]
        count = len(input_feed["image"]) if "image" in own else 1
        if count > 1:
            rows = [{**input_feed, **{name: input_feed[name][n : n + 1] for name in own}} for n in range(count)]
            found = [self.run(output_names, each, run_options) for each in rows]
            return [np.concatenate(each) for each in zip(*found, strict=True)]
        with _within_time(run_options, RUN_SECONDS * self.patience) as options:
            return list(super().run(output_names, input_feed, options))

    def run_with_ort_values(self, output_names: Any, input_dict_ort_values: Any, run_options: Any = None) -> list[Any]:
        """Run on onnxruntime's own tensors, as the method of onnxruntime."""
        with _within_time(run_options, RUN_SECONDS * self.patience) as options:
            return list(super().run_with_ort_values(output_names, input_dict_ort_values, options))


@contextmanager
def _within_time(options: onnxruntime.RunOptions | None, seconds: float) -> Iterator[onnxruntime.RunOptions]:
    """Yield options, or new ones in place of None, with which a run inside ends after so many seconds."""
    options = options or onnxruntime.RunOptions()
    timer = threading.Timer(seconds, setattr, (options, "terminate", True))
    timer.daemon = True
    timer.start()
    try:
        yield options
    except Exception as error:  # onnxruntime's exceptions share no base class
        if options.terminate:
            raise ModelError(
                f"the model does not end within {seconds:g} s on a few pictures: "
                "a loop in it is endless, or it is too slow to be explained"
            ) from error
        if memory := out_of_memory(error, REMEDY):
            raise memory from error
        raise
    finally:
        timer.cancel()


def open_session(
    model: bytes | Path, optimize: bool = True, threads: int = 0, written_to: Path | None = None
) -> onnxruntime.InferenceSession:
    """Open an onnxruntime session on the CPU, for a serialised model or a file.

    Args:
        model: The model, or where it lies.
        optimize: Whether onnxruntime may change the graph.
        threads: 0 for one per core. With several, the last digits of sums depend on the batch.
        written_to: Where to write the graph as onnxruntime runs it, or None.

    Raises:
        ModelError: onnxruntime cannot load the model.
        OutOfMemoryError: There is not enough memory.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = threads
    options.optimized_model_filepath = str(written_to or "")
    if not optimize:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    name = "the model" if isinstance(model, bytes) else model
    with failing_as(lambda why: ModelError(f"onnxruntime cannot load {name}: {NOISE.sub('', why)}"), (), REMEDY):
        return Session(
            model,
            options,
            providers=["CPUExecutionProvider"],
            disabled_optimizers=list(CRASHING_OPTIMIZERS),
            enable_fallback=0,  # it would try the same again, and print that
        )


def session(model: ir.Model, optimize: bool = True, written_to: Path | None = None) -> onnxruntime.InferenceSession:
    """Open a session for a model in memory; see `open_session`.

    Raises:
        ModelError: onnxruntime cannot load the model.
        OutOfMemoryError: There is not enough memory.
    """
    try:
        data = ir.to_proto(model).SerializeToString()
    except (ValueError, EncodeError) as error:  # protobuf holds 2 GB at most
        raise ModelError(f"the model cannot be passed to onnxruntime: {first_line(error)}") from error
    return open_session(data, optimize, written_to=written_to)


@contextmanager
def running(batch: int) -> Iterator[None]:
    """Run sessions inside; their errors become the model's failure on a batch of that size.

    Raises:
        ModelError: onnxruntime cannot run the model, or does not come to an end.
        OutOfMemoryError: There is not enough memory.
    """
    what = f"onnxruntime cannot run the model on a batch of {batch}"
    with failing_as(lambda why: CannotRunError(f"{what}: {NOISE.sub('', why)}"), remedy=REMEDY):
        yield


def run_session(
    opened: onnxruntime.InferenceSession, outputs: Sequence[str] | None, feeds: Mapping[str, Array]
) -> list[Any]:
    """Run a session; see `running`."""
    with running(next((len(v) for v in feeds.values() if np.ndim(v)), 1)):
        return list(opened.run(outputs, dict(feeds)))


def run(model: ir.Model, feeds: Mapping[str, Array]) -> list[Array]:
    """Run a model once on the CPU.

    Raises:
        ModelError: onnxruntime cannot load or run the model.
        OutOfMemoryError: There is not enough memory.
    """
    return run_session(session(model), None, feeds)
