"""ONNX's own test suite through the gradient walker: is every gradient that it returns right?

    python benchmarks/onnx_suite.py [--only PART...] [--seconds N] [--out FOLDER]

Takes every case of `onnx.backend.test` of the kinds node and pytorch-operator. For each pair of a floating-point input
and a floating-point output the gradient that `export` appends, run by onnxruntime, is held against differences of the
function itself (`differences.py`). Where onnx-ad is installed (`pip install onnx-ad`), it is asked the same. Each case
runs in a process that is ended when its time is over. Writes results/onnx-suite.json; exit status 1 if a gradient of
ours is wrong.
"""

import argparse
import multiprocessing
import re
import sys
import time
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
from differences import FLOATS, Reference, Slopes, engine_for, masked, references, slopes
from differentiators import DIFFERENTIATORS, Differentiator, Question, RefusedError
from onnx.backend.test.case.test_case import TestCase
from onnx_cases import cases, fixed, opened
from record import write

from fusioncam.errors import first_line
from fusioncam.kernels.arrays import Array
from fusioncam.runtime.bench.machine import describe

HERE = Path(__file__).resolve().parent
SECONDS = 120
OURS = "fusioncam"
BAD = ("wrong", "raised")


@dataclass(frozen=True)
class Finding:
    """The finding about one pair of an input and an output.

    Attributes:
        case: Name of the case.
        nodes: How many nodes its model has.
        pair: "input -> output"; empty where a case has none.
        verdict: `right`, `right, zero` (the output does not change), `wrong`, `refused` (by a line that says why),
            `raised` (by another exception), `kinks` (no direction has a derivative) or `not run` (by onnxruntime, or
            nothing to differentiate).
        why: The refusal, the error, or what was compared with.
        kinks: Directions that were left out.
        differing: What computes another output in float64 than the engine that was believed, and was left out.
        by: What differentiated.
    """

    case: str
    nodes: int
    pair: str
    verdict: str
    why: str
    kinks: int = 0
    differing: Sequence[str] = ()
    by: str = OURS

    @property
    def kind(self) -> str:
        """Return whether the model is one operator or several."""
        return "single operators" if self.nodes == 1 else "several operators"


def examine(case: TestCase) -> Iterator[Finding]:
    """Yield a finding for each pair of a case, by everything that differentiates."""
    try:
        model, inputs = opened(case)
    except Exception as error:  # a case that is not for us
        yield Finding(case.name, 1, "", "not run", first_line(error))
        return
    nodes = len(model.graph.node)
    pairs = [
        (i.name, o.name)
        for i in model.graph.input
        for o in model.graph.output
        if i.type.tensor_type.elem_type in FLOATS and o.type.tensor_type.elem_type in FLOATS and i.name in inputs
    ]
    if not pairs:
        yield Finding(case.name, nodes, "", "not run", "no pair of floating-point tensors")
    for name, output in pairs:
        pair, alone = f"{name} -> {output}", fixed(model, inputs, name)
        try:
            engine = engine_for(alone, {name: inputs[name]})
        except ValueError as error:
            yield Finding(case.name, nodes, pair, "not run", str(error))
            continue
        measured = Measured(Question(alone, name, inputs[name], output, engine))
        for by, differentiator in DIFFERENTIATORS.items():
            verdict, why = judge(measured, differentiator)
            yield Finding(case.name, nodes, pair, verdict, why, measured.kinks, measured.differing, by)


class Measured:
    """The differences of one pair, measured once for everything that differentiates.

    Attributes:
        question: The gradient that is asked for.
        kinks: Directions that were left out.
        differing: What computes another output in float64 than the engine that was believed, and was left out.
    """

    def __init__(self, question: Question) -> None:
        """Run the model; differences are taken when they are asked for."""
        self.question, self.kinks, self.differing = question, 0, [""][1:]
        self._y = masked(question.run(question.model, {})[question.output])
        self._found: tuple[Reference, Slopes] | None = None

    @property
    def empty(self) -> bool:
        """Return whether there is nothing to differentiate: no element, or no finite one."""
        return not self.question.x.size or not bool(np.isfinite(self._y).any())

    @property
    def weights(self) -> Array:
        """Return the weights of the outputs in the sum that is differentiated."""
        drawn = np.random.default_rng(7).normal(size=self._y.shape)
        weights: Array = np.where(np.isfinite(self._y), drawn, 0).astype(self._y.dtype)
        return weights

    def slopes(self) -> tuple[Reference, Slopes] | None:
        """Return the reference and its differences; None where nothing can be compared with."""
        if self._found is None:
            asked = self.question
            inputs, weights = {asked.name: asked.x}, self.weights.astype(np.float64)
            kept, self.differing = references(asked.model, asked.output, inputs, asked.engine)
            tried = [(r, slopes(r, inputs, asked.name, weights)) for r in kept[:1]]
            if tried and tried[0][1].kinks > len(tried[0][1].values):
                # What only looks like float64 is rough everywhere; what has real kinks has them for all.
                tried += [(r, slopes(r, inputs, asked.name, weights)) for r in kept[1:]]
            self._found = max(tried, key=lambda m: len(m[1].values)) if tried else None
            self.kinks = self._found[1].kinks if self._found else 0
        return self._found


def judge(measured: Measured, differentiator: Differentiator) -> tuple[str, str]:
    """Return the verdict on one gradient, and why."""
    if measured.empty:
        return "not run", "no elements, or no finite ones"
    try:
        gradient = differentiator(measured.question)
        x = measured.question.x
        got = np.zeros(x.shape) if gradient is None else gradient(measured.weights).astype(np.float64)
    except RefusedError as error:
        return "refused", str(error)
    except Exception as error:
        return "raised", f"{type(error).__name__}: {first_line(error)}"
    if got.shape != x.shape:
        return "wrong", f"the gradient has shape {got.shape}, not {x.shape}"
    found = measured.slopes()
    if found is None:
        return "not run", "nothing to compare with"
    reference, differences = found
    if not len(differences.values):
        return "kinks", "no direction has a derivative"
    error_found = differences.error(got)
    if error_found <= reference.tolerance:
        return "right" if differences.values.any() else "right, zero", reference.name
    return "wrong", f"off by {error_found:.1e} from {reference.name}"


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
                yield Finding(names[done - 1], 1, "", "wrong", why)
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
        if finding.verdict in BAD and finding.by == OURS:
            print(f"{finding.verdict.upper()} {finding.case} {finding.pair}: {finding.why}", flush=True)
    write(report(found, round(time.perf_counter() - start, 1)), asked.out / "results" / "onnx-suite.json")
    for by in DIFFERENTIATORS:
        for kind, counts in counted(f for f in found if f.by == by).items():
            print(f"{by}, {kind}: " + ", ".join(f"{n} {verdict}" for verdict, n in counts.items()))
    return 1 if any(f.verdict in BAD for f in found if f.by == OURS) else 0


def counted(found: Iterable[Finding]) -> dict[str, dict[str, int]]:
    """Return how many pairs got each verdict, by the kind of their model."""
    kinds: dict[str, Counter[str]] = {}
    for finding in found:
        kinds.setdefault(finding.kind, Counter())[finding.verdict] += 1
    return {kind: dict(counts.most_common()) for kind, counts in sorted(kinds.items())}


def report(found: Sequence[Finding], seconds: float) -> dict[str, Any]:
    """Return the counts, and what was refused, wrong or not to be judged one by one."""
    ours = [f for f in found if f.by == OURS]
    differing = Counter((name, f.case) for f in ours for name in f.differing)
    return {
        "benchmark": "onnx-suite",
        "date": datetime.now(UTC).date().isoformat(),
        "machine": describe(),
        "versions": {
            **{m.__name__: m.__version__ for m in (onnx, onnxruntime, ir, np)},
            **({"onnx-ad": version("onnx-ad")} if "onnx-ad" in DIFFERENTIATORS else {}),
        },
        "seconds": seconds,
        "cases": len({f.case for f in found}),
        "pairs": {by: counted(f for f in found if f.by == by) for by in DIFFERENTIATORS},
        "references": dict(Counter(f.why for f in ours if f.verdict.startswith("right")).most_common()),
        "kinks_left_out": sum(f.kinks for f in ours),
        "references_that_differ": [{"reference": name, "case": case} for name, case in sorted(differing)],
        "refused": dict(Counter(_reason(f) for f in ours if f.verdict == "refused").most_common()),
        "not_run": dict(Counter(_reason(f) for f in ours if f.verdict == "not run").most_common(30)),
        "wrong": [asdict(f) for f in found if f.verdict == "wrong"],
        "raised": dict(Counter(f"{f.by}: {_reason(f)}" for f in found if f.verdict == "raised").most_common(60)),
        "kinks": [asdict(f) for f in ours if f.verdict == "kinks"],
        "right_elsewhere_only": sorted(_right_elsewhere(found)),
    }


def _right_elsewhere(found: Sequence[Finding]) -> set[str]:
    """Return the pairs that another differentiator gets right, and ours does not."""
    right = {
        by: {f"{f.case}: {f.pair}" for f in found if f.by == by and f.verdict == "right"} for by in DIFFERENTIATORS
    }
    return set().union(*right.values()) - right[OURS]


def _reason(finding: Finding) -> str:
    """Return why a pair was left, without names."""
    why = finding.why.partition("; choose a layer")[0].partition("; onnx.reference")[0]
    return re.sub(r" \(node '.*?'\)|'.*?'|/\S+", "", why)[:120]


if __name__ == "__main__":
    sys.exit(main())
