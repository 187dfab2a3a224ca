"""The cost of an explanation by a layer, predicted before anything is exported."""

import math
import time
from dataclasses import dataclass

import onnx_ir as ir

from fusioncam.export.gradient import dims
from fusioncam.export.layers.choice import Candidate
from fusioncam.export.model import CanonicalModel
from fusioncam.export.reading.shapes import feeds_of
from fusioncam.export.sessions import session
from fusioncam.manifest import CHUNK

EXTRA_PASSES = 4  # 0, x D, x R and x U


@dataclass(frozen=True)
class Cost:
    """The passes of one exact explanation, its predicted seconds on this machine's CPU and its peak bytes."""

    passes: int
    seconds: float
    bytes: int


def seconds_per_pass(canonical: CanonicalModel) -> float:
    """Measure one pass of the model in a chunk: the quicker of two runs after a warm-up."""
    model, feeds = session(canonical.model), feeds_of(canonical.model, CHUNK)
    times = []
    for _ in range(3):
        start = time.perf_counter()
        model.run(None, feeds)
        times.append(time.perf_counter() - start)
    return min(times[1:]) / CHUNK


def chunk_bytes(canonical: CanonicalModel) -> int:
    """Return the bytes of the weights and of the tensors that are alive at once while a chunk passes through."""
    graph = canonical.model.graph
    order = {node: i for i, node in enumerate(graph)}
    births = {o: i for node, i in order.items() for o in node.outputs if o.shape is not None}
    change = [0] * (len(order) + 2)
    for value, born in births.items():
        dies = max((order[u.node] for u in value.uses() if u.node in order), default=born)
        change[born] += _bytes(value)
        change[dies + 1] -= _bytes(value)
    alive = most = 0
    for difference in change:
        alive += difference
        most = max(most, alive)
    weights = sum(v.const_value.nbytes for v in graph.initializers.values() if v.const_value is not None)
    return weights + CHUNK * (most + 2 * _bytes(canonical.image))


def _bytes(value: ir.Value) -> int:
    itemsize = value.dtype.itemsize if value.dtype is not None else 4
    return int(itemsize * math.prod(1 if d is None else d for d in dims(value)))


def cost(candidate: Candidate, pass_seconds: float, pass_bytes: int) -> Cost:
    """Return the cost of an explanation by `candidate`."""
    passes = candidate.shape[0] + EXTRA_PASSES
    return Cost(passes, passes * pass_seconds, pass_bytes + 8 * math.prod(candidate.shape))
