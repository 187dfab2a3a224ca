"""TensorRT engines of all graphs of bundles, built without a GPU: are all taken, how large are they, and how fast?

    python benchmarks/engines.py [--models FOLDER] [--only NAME...]   # networks of benchmarks and tests, ONNX files
    python benchmarks/engines.py BUNDLE...                            # prints the table, writes nothing

TensorRT-RTX builds; its wheel is in the extra `test`. The networks are ResNet-18 and MobileNetV2 at 224 x 224, the ONNX
files of the folder, those of the tests, small ones of rarer operators at opset 23, and those of torchvision, timm and
transformers that are installed. Batches are 1 to 64 pictures, where a graph leaves them open. Writes
results/tensorrt.json after each network, with `--only` beside what is there, and at last the table of README.md. Exit
status 1 if a graph is refused, or if one engine of the whole method takes more than a minute.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cpu.readme import fill
from engines.builder import WHEEL, Builder

from fusioncam.errors import FusionCamError
from fusioncam.manifest import CHUNK_GRAPH, EXPLAIN_GRAPH, FUSE_GRAPH, HEAD_GRAPH, SCORE_GRAPH, SINGLE_GRAPH
from fusioncam.runtime.bench.machine import describe, versions

HERE = Path(__file__).resolve().parent
RESULTS, README = HERE / "results" / "tensorrt.json", HERE / "README.md"
RTX = "TensorRT-RTX 1.7.1"
GRAPHS = (EXPLAIN_GRAPH, SCORE_GRAPH, HEAD_GRAPH, CHUNK_GRAPH, FUSE_GRAPH, SINGLE_GRAPH)
OF_SCORES = (SCORE_GRAPH, CHUNK_GRAPH, FUSE_GRAPH, SINGLE_GRAPH)  # what another precision of the scores changes
ONE_ENGINE_SECONDS = 60.0
MEGABYTE = 1e6
Rows = list[dict[str, Any]]


def rows_of(builder: Builder, bundle: Path, name: str, precision: str, graphs: Sequence[str] = GRAPHS) -> Rows:
    """Return what becomes of the graphs of one bundle."""
    found = []
    for graph in graphs:
        if (bundle / graph).exists():
            engine = builder.build(bundle / graph)
            found.append({"network": name, "scores": precision, "graph": graph, **asdict(engine)})
    return found


def all_rows(builder: Builder, models: Path | None, only: tuple[str, ...]) -> Iterator[Rows]:
    """Yield the rows of every network and precision, as soon as they are there."""
    from engines.sources import sources

    for name, (make, precisions) in sources(models).items():
        for precision in precisions if not only or name.startswith(only) else ():
            with tempfile.TemporaryDirectory() as folder:
                bundle = Path(folder) / "model.fcam"
                try:
                    make(bundle, precision)
                except FusionCamError as error:  # a float16 model has no scores in int8
                    yield [{"network": name, "scores": precision, "graph": None, "not_made": str(error)}]
                    continue
                graphs = GRAPHS if precision == precisions[0] else OF_SCORES
                yield rows_of(builder, bundle, name, precision, graphs)


def table(rows: Rows) -> str:
    """Return the rows as Markdown: seconds of a processor, and megabytes, for every graph."""
    names = [graph.removesuffix(".onnx") for graph in GRAPHS]
    lines = [f"| | scores | {' | '.join(names)} |", f"|---|---|{'---:|' * len(GRAPHS)}"]
    for name, precision in dict.fromkeys((r["network"], r["scores"]) for r in rows if r["graph"]):
        of_graph = {r["graph"]: r for r in rows if (r["network"], r["scores"]) == (name, precision)}
        cells = [_cell(of_graph[graph]) if graph in of_graph else "" for graph in GRAPHS]
        lines.append(f"| {name} | {precision} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(row: dict[str, Any]) -> str:
    return "refused" if row["refusal"] else f"{row['processor_seconds']:.1f} s, {row['bytes'] / MEGABYTE:.1f} MB"


def summary(rows: Rows) -> dict[str, Any]:
    """Return how many graphs were built and refused, and the longest building of one engine of the whole method."""
    graphs = [r for r in rows if r["graph"]]
    singles = [r for r in graphs if r["graph"] == SINGLE_GRAPH and not r["refusal"]]
    return {
        "built": sum(not r["refusal"] for r in graphs), "refused": sum(bool(r["refusal"]) for r in graphs),
        "one_engine_seconds": max((r["seconds"] for r in singles), default=0.0),
        "one_engine_processor_seconds": max((r["processor_seconds"] for r in singles), default=0.0),
    }  # fmt: skip


def words(told: dict[str, Any]) -> str:
    """Return the summary as a sentence."""
    return (
        f"{told['built']} graphs built, {told['refused']} refused; the longest building of the whole method as one "
        f"engine took {told['one_engine_seconds']:.1f} s, {told['one_engine_processor_seconds']:.1f} s of a processor."
    )


def machine(report: dict[str, Any]) -> str:
    """Return when and where the engines were built."""
    return f"{report['date']}, {report['machine']['processor']}, {report['machine']['cores']} cores, {RTX}."


def main(arguments: Sequence[str] | None = None) -> int:
    """Build, write, print; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundles", nargs="*", type=Path, metavar="BUNDLE")
    parser.add_argument("--models", type=Path, help="folder of ONNX files")
    parser.add_argument("--only", nargs="*", default=[], help="how names of networks begin")
    parser.add_argument("--out", type=Path, default=RESULTS)
    asked = parser.parse_args(arguments)
    for bundle in asked.bundles:
        if not any((bundle / graph).exists() for graph in GRAPHS):
            parser.error(f"{bundle} holds no graph of a bundle; give a folder that fusioncam export made")
    rows: Rows = []
    if asked.only and asked.out.exists():
        old = json.loads(asked.out.read_text())["rows"]
        rows += [row for row in old if not row["network"].startswith(tuple(asked.only))]
    with Builder() as builder:
        given = (rows_of(builder, path, path.name, "") for path in asked.bundles)
        for found in given if asked.bundles else all_rows(builder, asked.models, tuple(asked.only)):
            rows += found
            for row in found:
                became = row.get("refusal") or row.get("not_made") or _cell(row)
                print(row["network"], row["scores"], row["graph"], became, file=sys.stderr, flush=True)
            report = {
                "benchmark": "tensorrt", "date": datetime.now(UTC).date().isoformat(), "machine": describe(),
                "versions": versions(("fusioncam", "onnx", "torch", WHEEL)), **summary(rows), "rows": rows,
            }  # fmt: skip
            if not asked.bundles:
                asked.out.parent.mkdir(parents=True, exist_ok=True)
                asked.out.write_text(json.dumps(report, indent=1) + "\n")
    told = summary(rows)
    text = f"{table(rows)}\n\n{words(told)}"
    print(text)
    if asked.out == RESULTS and not asked.bundles:
        README.write_text(fill(README.read_text(), {"tensorrt": f"{machine(report)}\n\n{text}"}))
    return 1 if told["refused"] or told["one_engine_seconds"] > ONE_ENGINE_SECONDS else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except FusionCamError as error:
        sys.exit(f"error: {error}")
