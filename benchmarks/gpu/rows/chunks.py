"""Rows about one chunk of masked passes: precision, layout, changes of the batch, TensorRT."""

import time
from typing import Any

import numpy as np
from record import Record

from fusioncam.errors import ProviderError
from fusioncam.manifest import SCORE_GRAPH
from fusioncam.runtime.engine.run_sizes import SMALL_COST
from fusioncam.runtime.providers.table import TENSORRT
from gpu.lab import Lab
from gpu.rows.passes import Passes, Setting, operations, partitions

SLOWER = 1.2  # times: less than that may be noise
FEW = 4  # pictures of a small run


def _timed(record: Record, lab: Lab, setting: Setting, precision: str, options: dict[str, str]) -> tuple[float, Any]:
    """Median seconds of one chunk with some options of the CUDA provider, and its logits; a figure has more."""
    passes = Passes(lab, setting.name, precision, setting.chunk, options)
    run = passes.run(setting.chunk)
    seconds = passes.time(run, samples=setting.samples)
    rate = operations(lab.bundle(setting.name, precision)[0] / SCORE_GRAPH) * setting.chunk / seconds["p50"] / 1e12
    record.figures.append(
        {
            "precision": precision,
            "chunk": setting.chunk,
            **options,
            "chunk_seconds": seconds,
            "tflops": rate,
            "parts": partitions(passes.session),
        }
    )
    record.save()
    return seconds["p50"], passes.logits(run, setting.chunk)


def tensor_cores(record: Record, lab: Lab, setting: Setting) -> str:
    """Row 1: one chunk with use_tf32 0 and 1, in each precision."""
    told = []
    for precision in reversed(lab.precisions(setting.name)):
        (exact, logits), (fast, other) = (
            _timed(record, lab, setting, precision, {"use_tf32": tf32}) for tf32 in ("0", "1")
        )
        off = float(np.abs(logits - other).max() / max(np.abs(logits).max(), 1e-30))
        word = "slower" if exact > SLOWER * fast else "no slower"
        told.append(
            f"{precision}: {1e3 * exact:.2f} ms with use_tf32=0, {1e3 * fast:.2f} ms with 1, so 0 is {word}; "
            f"logits differ by {off:.1e} of the largest"
        )
    return "; ".join(told)


def change_of_batch(record: Record, lab: Lab, setting: Setting) -> str:
    """Row 2: chunks of two sizes by turns, against the same chunks each on its own."""
    precision, few, told = lab.precisions(setting.name)[-1], min(FEW, setting.chunk), []
    for capture in (False, True):
        passes = Passes(lab, setting.name, precision, setting.chunk, capture=capture)
        both = [passes.run(n, i if capture else -1) for i, n in enumerate((setting.chunk, few))]
        alone = [passes.time(run, samples=setting.samples)["p50"] for run in both]
        turns = passes.time(*both, samples=setting.samples)
        cost = (turns["p50"] - sum(alone)) / 2
        small = alone[1] / few / (alone[0] / setting.chunk)
        record.figures.append(
            {
                "cuda_graphs": passes.captured,
                "alone_seconds": alone,
                "by_turns_seconds": turns,
                "change_seconds": cost,
                "small_cost": small,
            }
        )
        told.append(f"{1e3 * cost:.2f} ms {'with' if passes.captured else 'without'} CUDA graphs")
    return (
        f"a change of the batch between {setting.chunk} and {few} costs {' and '.join(told)}; a picture costs "
        f"{small:.1f} times as much in a run of {few} (taken to be {SMALL_COST} at most)"
    )


# fuse_conv_bias without prefer_nhwc is not among them: onnxruntime then clears memory that is in use, see
# `refuse_wrong_maps`.
LAYOUTS = (
    {"prefer_nhwc": "0", "fuse_conv_bias": "0"},
    {"prefer_nhwc": "1", "fuse_conv_bias": "0"},
    {"prefer_nhwc": "1", "fuse_conv_bias": "1"},
)
ALIKE = {"fp32": 1e-3, "fp16": 3e-2}  # differences of logits, of the largest


def layouts(record: Record, lab: Lab, setting: Setting) -> str:
    """Row 7: the layouts that give right numbers, in each precision; the first is onnxruntime's default."""
    told = []
    for precision in lab.precisions(setting.name):
        times: dict[str, float] = {}
        plain = None
        for options in LAYOUTS:
            words = ", ".join(f"{key}={value}" for key, value in options.items())
            try:
                seconds, logits = _timed(record, lab, setting, precision, options)
            except ProviderError:  # it is not there at all
                raise
            except Exception as error:  # the other layouts shall be timed all the same
                record.failed(f"{precision}, {words}", error)
                continue
            plain = logits if plain is None else plain
            off = float(np.abs(logits - plain).max() / max(np.abs(plain).max(), 1e-30))
            if record.check(f"{precision}, {words}: logits are those of the first layout", off, ALIKE[precision]):
                times[words] = seconds
        if times:
            best = min(times, key=lambda words: times[words])
            faster = next(iter(times.values())) / times[best]
            told.append(
                f"{precision}: best with {best}, {1e3 * times[best]:.2f} ms, {faster:.2f} x as fast as the first"
            )
    return "; ".join(told)


def tensorrt(record: Record, lab: Lab, setting: Setting) -> str:
    """Row 10: how TensorRT cuts the graph, and what a whole chunk and a few pictures cost with one engine."""
    precision, few = lab.precisions(setting.name)[-1], min(FEW, setting.chunk)
    size = lab.bundle(setting.name, precision)[1].preprocessing.size
    begun = time.perf_counter()
    passes = Passes(
        lab, setting.name, precision, setting.chunk, provider=TENSORRT, shapes={"image": (setting.chunk, 3, *size)}
    )
    runs = [passes.run(count) for count in (setting.chunk, few)]
    built, parts = time.perf_counter() - begun, partitions(passes.session)
    whole, small = (passes.time(run, samples=setting.samples) for run in runs)
    record.figures.append(
        {"open_seconds": built, "partitions": parts, "chunk_seconds": whole, "few": few, "few_seconds": small}
    )
    cut = ", ".join(f"{n['nodes']} nodes in {n['parts']} part(s) by {name}" for name, n in parts.items()) or "not cut"
    return (
        f"{cut}; opened in {built:.1f} s; {setting.chunk} pictures take {1e3 * whole['p50']:.2f} ms, "
        f"{few} take {1e3 * small['p50']:.2f} ms"
    )
