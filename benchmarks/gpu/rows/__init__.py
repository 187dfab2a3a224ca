"""Questions that only a GPU answers: each a row with a number, a small measurement and a verdict."""

from collections.abc import Callable
from dataclasses import dataclass

from record import Record

from fusioncam.errors import ProviderError
from fusioncam.runtime.providers.table import CUDA, TENSORRT
from gpu.lab import Lab
from gpu.rows import callers, captures, chunks, explaining
from gpu.rows.passes import Setting, need


@dataclass(frozen=True)
class Row:
    """One question.

    Attributes:
        number: Of the finding that asks it.
        question: In words.
        measure: Takes a record, a lab and a setting, and returns the verdict.
        provider: What it needs of onnxruntime.
    """

    number: int
    question: str
    measure: Callable[[Record, Lab, Setting], str]
    provider: str = CUDA


# In the order of what is worth most: time may run out.
ROWS = (
    Row(1, "does use_tf32=0 take the tensor cores from a float16 graph?", chunks.tensor_cores),
    Row(9, "does a captured graph survive the plan of another shape?", captures.survives),
    Row(2, "what does a change of the batch cost, without CUDA graphs and with them?", chunks.change_of_batch),
    Row(3, "do captures survive what other threads do meanwhile?", captures.beside_others),
    Row(8, "do threads that come and go get CUDA graphs, and leave nothing behind?", callers.callers),
    Row(7, "which layout is faster, and is a fused bias?", chunks.layouts),
    Row(5, "does progress follow the GPU, so that deadlines and cancelling work?", explaining.progress),
    Row(6, "how many pictures are passed for nothing?", explaining.padding),
    Row(10, "does TensorRT take the graph whole, and a few pictures without a whole chunk?", chunks.tensorrt, TENSORRT),
)  # fmt: skip


def answer(record: Record, row: Row, lab: Lab, setting: Setting) -> None:
    """Measure one row; the last of its figures is the verdict."""
    what = f"row {row.number}"
    try:
        need(lab, row.provider)
        with lab.device.entered():
            verdict = row.measure(record, lab, setting)
    except ProviderError as error:
        record.leave_out(what, error)
        return
    record.figures.append({"row": row.number, "question": row.question, "verdict": verdict, "model": setting.name})
