"""What an exact explanation costs over the bare masked passes it must run.

    python benchmarks/exact_mode.py BUNDLE PICTURE [BUNDLE PICTURE ...] [--rounds 7] [-o RESULT.json]

Both run in this process on the same session settings and the same chunks, in turns, after a warm-up; the medians and
their spread are printed, and written as JSON with the machine and the versions.
"""

import argparse
import json
import os
import platform
import statistics
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from fusioncam import Explainer
from fusioncam.manifest import CHUNK, SCORE_GRAPH
from fusioncam.runtime.image import as_input
from fusioncam.runtime.session import open_session


def chunks(passes: int) -> list[int]:
    """Sizes of the runs of one explanation: channels, x * 0 and x * D in chunks, then x * R, then x * U."""
    first = passes - 2
    return [CHUNK] * (first // CHUNK) + [first % CHUNK] * (first % CHUNK > 0) + [1, 1]


def measure(bundle: Path, picture: Path, rounds: int) -> dict[str, Any]:
    """Seconds of the bare passes and of the whole explanation, in turns."""
    explainer = Explainer(bundle)
    _, x = as_input(picture, explainer.manifest.preprocessing)
    passes = explainer.explain(x).passes
    score = open_session(bundle / SCORE_GRAPH)
    inputs = {size: np.repeat(x[None], size, axis=0) for size in set(chunks(passes.run))}

    def bare() -> None:
        for size in chunks(passes.run):
            score.run(["logits"], {"image": inputs[size]})

    times: dict[str, list[float]] = {"bare": [], "explain": []}
    work = {"bare": bare, "explain": lambda: explainer.explain(x)}
    for i in range(rounds + 1):
        for name, run in work.items():
            start = time.perf_counter()
            run()
            if i:  # the first round warms up
                times[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(seconds) for name, seconds in times.items()}
    ratios = [e / b for e, b in zip(times["explain"], times["bare"], strict=True)]
    return {
        "bundle": bundle.name,
        "picture": picture.name,
        "passes": passes._asdict(),
        "chunk": CHUNK,
        "rounds": rounds,
        "median_seconds": medians,
        "spread_seconds": {name: [min(s), max(s)] for name, s in times.items()},
        "ratio_of_medians": medians["explain"] / medians["bare"],
        "ratio_spread": [min(ratios), max(ratios)],
    }


def main() -> None:
    """Measure every pair of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("pairs", nargs="+", type=Path, metavar="BUNDLE PICTURE")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("-o", "--out", type=Path)
    options = parser.parse_args()
    results = [measure(b, p, options.rounds) for b, p in zip(options.pairs[::2], options.pairs[1::2], strict=True)]
    for r in results:
        low, high = r["ratio_spread"]
        print(
            f"{r['bundle']}: {r['passes']['run']} passes of {r['passes']['channels']} channels, "
            f"bare {r['median_seconds']['bare']:.3f} s, explain {r['median_seconds']['explain']:.3f} s, "
            f"ratio {r['ratio_of_medians']:.3f} ({low:.3f} to {high:.3f})"
        )
    if options.out:
        machine = {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count()}
        tools = {name: version(name) for name in ("fusioncam", "onnxruntime-gpu", "numpy", "opencv-python")}
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps({"machine": machine, "versions": tools, "results": results}, indent=2) + "\n")


if __name__ == "__main__":
    main()
