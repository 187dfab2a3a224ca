"""ONNX's own test suite through the gradient walker: is every gradient that it returns right?

    python benchmarks/onnx_suite.py [--only PART...] [--seconds N] [--out FOLDER]

Takes every case of `onnx.backend.test` of the kinds node and pytorch-operator. For each pair of a floating-point input
and a floating-point output the gradient that `export` appends, run by onnxruntime, is held against differences of the
function itself (`differences.py`). Each case runs in a process that is ended when its time is over. Writes
results/onnx-suite.json; exit status 1 if a gradient is wrong.
"""

import argparse
import multiprocessing
import re
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
from differences import ENGINES, FLOATS, Arrays, engine_for, references, slopes
from onnx.backend.test.case.test_case import TestCase
from onnx_cases import cases, fixed, opened
from record import write

from fusioncam.errors import FusionCamError, ModelError, first_line
from fusioncam.export.gradient import Ops, backpropagate, path
from fusioncam.export.reading.load import load_converted
from fusioncam.export.reading.shapes import settle
from fusioncam.kernels.arrays import Array
from fusioncam.runtime.bench.machine import describe

HERE = Path(__file__).resolve().parent
SECONDS = 120
IR_VERSION = 10  # newer files hold nothing else here, but onnxruntime need not know them


@dataclass(frozen=True)
class Finding:
    """The finding about one pair of an input and an output.

    Attributes:
        case: Name of the case.
        pair: "input -> output"; empty where a case has none.
        verdict: `right`, `wrong`, `refused` (by the walker), `kinks` (no direction has a derivative) or `not run` (by
            onnxruntime, or nothing to differentiate).
        why: The refusal, the error, or what was compared with.
        kinks: Directions that were left out.
        differing: What computes another output in float64 than the engine that was believed, and was left out.
    """

    case: str
    pair: str
    verdict: str
    why: str
    kinks: int = 0
    differing: Sequence[str] = ()


def with_gradient(model: onnx.ModelProto, x: Array, name: str, output: str, engine: str) -> onnx.ModelProto | None:
    """Return the model as `export` loads it, with a further input `seed` and output `dx`.

    Args:
        model: A model of one input.
        x: Its value, for which shapes are measured.
        name: The input.
        output: The output to differentiate.
        engine: What measures the shapes.

    Returns:
        None where the output is a constant.

    Raises:
        FusionCamError: It is refused.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.onnx"
        older = onnx.ModelProto()
        older.CopyFrom(model)
        older.ir_version = min(model.ir_version, IR_VERSION)
        onnx.save(older, file)
        # onnx.reference runs opsets that are newer than the installed onnxruntime, which `export` refuses.
        loaded, _ = load_converted(file, newer=True)
    graph = loaded.graph
    wanted = next(o for o in graph.outputs if o.name == output)
    graph.outputs.clear()
    graph.outputs.append(wanted)
    if wanted.producer() is None or not path(graph.inputs[0], wanted):
        return None
    settle(loaded, [record(loaded, {name: x}, engine)])
    source, target = graph.inputs[0], graph.outputs[0]
    seed = ir.Value(name="seed", shape=target.shape, type=target.type)
    graph.inputs.append(seed)
    op = Ops(graph, "gradient")
    gradient = op.Identity(backpropagate(op, target, seed, source))
    gradient.name, gradient.shape, gradient.type = "dx", source.shape, source.type
    graph.outputs.append(gradient)
    return ir.to_proto(loaded)


def record(model: ir.Model, feeds: Arrays, engine: str) -> dict[ir.Value, Array]:
    """Run a model, set all shapes, and return every tensor.

    Raises:
        ModelError: The engine runs the source, but not what is made of it.
    """
    graph = model.graph
    kept, values = list(graph.outputs), {str(o.name): o for node in graph for o in node.outputs if o.name}
    graph.outputs.clear()
    graph.outputs.extend(values.values())
    proto = ir.to_proto(model)
    graph.outputs.clear()
    graph.outputs.extend(kept)
    try:
        found = ENGINES[engine](proto)(feeds)
    except Exception as error:  # onnxruntime's share no base class
        raise ModelError(f"{engine} cannot run the model: {first_line(error)}") from error
    graph.inputs[0].shape = ir.Shape(next(iter(feeds.values())).shape)
    arrays = {values[k]: np.asarray(v) for k, v in found.items() if isinstance(v, np.ndarray | np.generic)}
    for value, array in arrays.items():
        value.shape, value.dtype = ir.Shape(array.shape), ir.DataType.from_numpy(array.dtype)
    return arrays


def examine(case: TestCase) -> Iterator[Finding]:
    """Yield a finding for each pair of a case."""
    try:
        model, inputs = opened(case)
    except Exception as error:  # a case that is not for us
        yield Finding(case.name, "", "not run", first_line(error))
        return
    pairs = [
        (i.name, o.name)
        for i in model.graph.input
        for o in model.graph.output
        if i.type.tensor_type.elem_type in FLOATS and o.type.tensor_type.elem_type in FLOATS and i.name in inputs
    ]
    if not pairs:
        yield Finding(case.name, "", "not run", "no pair of floating-point tensors")
    for name, output in pairs:
        try:
            yield judge(case.name, model, inputs, name, output)
        except Exception as error:
            yield Finding(case.name, f"{name} -> {output}", "wrong", f"{type(error).__name__}: {first_line(error)}")


def judge(case: str, model: onnx.ModelProto, inputs: Arrays, name: str, output: str) -> Finding:
    """Return what is found of one pair."""
    pair, x, alone = f"{name} -> {output}", inputs[name], fixed(model, inputs, name)
    try:
        engine = engine_for(alone, {name: x})
    except ValueError as error:
        return Finding(case, pair, "not run", str(error))
    y = np.asarray(ENGINES[engine](alone)({name: x})[output])
    if not x.size or not np.isfinite(y).any():
        return Finding(case, pair, "not run", "no elements, or no finite ones")
    try:
        both = with_gradient(alone, x, name, output, engine)
    except FusionCamError as error:
        return Finding(case, pair, "refused", first_line(error))
    if both is None:
        return Finding(case, pair, "not run", "the output does not depend on the input")
    weights = np.where(np.isfinite(y), np.random.default_rng(7).normal(size=y.shape), 0).astype(y.dtype)
    got = np.asarray(ENGINES[engine](both)({name: x, "seed": weights})["dx"], np.float64)
    if got.shape != x.shape:
        return Finding(case, pair, "wrong", f"the gradient has shape {got.shape}, not {x.shape}")
    kept, differing = references(alone, output, {name: x}, engine)
    measured = [(r, slopes(r, {name: x}, name, weights.astype(np.float64))) for r in kept[:1]]
    if measured and measured[0][1].kinks > len(measured[0][1].values):
        # What only looks like float64 is rough everywhere; what has real kinks has them for all.
        measured += [(r, slopes(r, {name: x}, name, weights.astype(np.float64))) for r in kept[1:]]
    if not measured:
        return Finding(case, pair, "not run", "nothing to compare with", 0, differing)
    reference, found = max(measured, key=lambda m: len(m[1].values))
    if not len(found.values):
        return Finding(case, pair, "kinks", "no direction has a derivative", found.kinks, differing)
    error = found.error(got)
    if error <= reference.tolerance:
        return Finding(case, pair, "right", reference.name, found.kinks, differing)
    return Finding(case, pair, "wrong", f"off by {error:.1e} from {reference.name}", found.kinks, differing)


def work(connection: Connection, only: Sequence[str]) -> None:
    """Send the names of the cases, then answer numbers with findings until there are no more."""
    warnings.simplefilter("ignore")  # some cases overflow or divide by zero on purpose
    known = cases(only)
    connection.send([case.name for case in known])
    while (number := connection.recv()) is not None:
        connection.send([*examine(known[number])])


@contextmanager
def worker(only: Sequence[str]) -> Iterator[tuple[list[str], Connection]]:
    """A process that works, until the block ends; the names of its cases, and the line to it."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=work, args=(there, only), daemon=True)
    process.start()
    there.close()
    try:
        yield here.recv(), here
    finally:
        process.kill()
        process.join()


def findings(only: Sequence[str], seconds: float) -> Iterator[Finding]:
    """Yield all findings, each case within its time and in another process: a crash ends only that."""
    done, names = 0, [""]
    while done < len(names):
        with worker(only) as (names, line):
            while done < len(names):
                line.send(done)
                done += 1
                try:
                    if line.poll(seconds):
                        yield from line.recv()
                        continue
                    why = f"not done after {seconds:g} s"
                except EOFError:
                    why = "the process crashed"
                yield Finding(names[done - 1], "", "wrong", why)
                break


def main(arguments: Sequence[str] | None = None) -> int:
    """Examine all cases, write the report; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", default=(), help="parts of names of cases")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="limit for each case")
    parser.add_argument("--out", type=Path, default=HERE, help="folder of results/")
    asked = parser.parse_args(arguments)
    start, found = time.perf_counter(), []
    for finding in findings(asked.only, asked.seconds):
        found.append(finding)
        if finding.verdict == "wrong":
            print(f"WRONG {finding.case} {finding.pair}: {finding.why}", flush=True)
    write(report(found, round(time.perf_counter() - start, 1)), asked.out / "results" / "onnx-suite.json")
    counts = Counter(f.verdict for f in found)
    print(", ".join(f"{n} {verdict}" for verdict, n in counts.most_common()))
    return 1 if counts["wrong"] else 0


def report(found: Sequence[Finding], seconds: float) -> dict[str, Any]:
    """Return the counts, and what was refused, wrong or not to be judged one by one."""
    differing = Counter((name, f.case) for f in found for name in f.differing)
    return {
        "benchmark": "onnx-suite",
        "date": datetime.now(UTC).date().isoformat(),
        "machine": describe(),
        "versions": {m.__name__: m.__version__ for m in (onnx, onnxruntime, ir, np)},
        "seconds": seconds,
        "cases": len({f.case for f in found}),
        "pairs": dict(Counter(f.verdict for f in found).most_common()),
        "references": dict(Counter(f.why for f in found if f.verdict == "right").most_common()),
        "kinks_left_out": sum(f.kinks for f in found),
        "references_that_differ": [{"reference": name, "case": case} for name, case in sorted(differing)],
        "refused": dict(Counter(_reason(f) for f in found if f.verdict == "refused").most_common()),
        "not_run": dict(Counter(_reason(f) for f in found if f.verdict == "not run").most_common(30)),
        "wrong": [asdict(f) for f in found if f.verdict == "wrong"],
        "kinks": [asdict(f) for f in found if f.verdict == "kinks"],
    }


def _reason(finding: Finding) -> str:
    """Return why a pair was left, without names."""
    why = finding.why.partition("; choose a layer")[0].partition("; onnx.reference")[0]
    return re.sub(r" \(node '.*?'\)|'.*?'|/\S+", "", why)[:120]


if __name__ == "__main__":
    sys.exit(main())
