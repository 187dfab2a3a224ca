"""The cost of explanations on this machine's CPU, beside other packages: maps are checked first, then timed.

    python benchmarks/cpu.py [--quick] [--models FOLDER --photos FOLDER] [--stages peers budgets chunks channels images]

peers: fusioncam, others and the method written plainly in torch, on the same weights, pictures and threads. budgets:
time and maps by budget, over photos. chunks, channels, images: what grows with what. Writes results/cpu.json, plots/
and the tables of README.md beside this file; with --quick into build/bench instead. Stages that are not run stay as
they were last measured, on the same machine and versions. Exit status 1 if a map is wrong.
"""

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
STAGES = ("peers", "budgets", "chunks", "channels", "images")
QUICK: dict[str, Any] = {
    "networks": ("wide-64",), "rounds": 2, "study": 2, "widths": (64, 256), "chunks": (4, 16), "images": (1, 4)
}  # fmt: skip
PACKAGES = (
    "fusioncam", "numpy", "onnx", "onnxruntime", "onnxruntime-gpu", "opencv-python", "opencv-python-headless", "torch",
    "grad-cam", "torchcam", "captum", "openvino", "openvino-xai", "onnx2torch",
)  # fmt: skip


def options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the arguments of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=STAGES)
    parser.add_argument("--networks", nargs="+", help="with random weights: resnet18, mobilenetv2, resnet50, wide-K")
    parser.add_argument("--models", type=Path, metavar="FOLDER", help="ONNX files of pretrained ImageNet networks")
    parser.add_argument("--photos", type=Path, metavar="FOLDER", help="what to explain with those")
    parser.add_argument("--budgets", type=lambda text: tuple(text.split(",")), metavar="exact,auto,0.2")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--study", type=int, metavar="N", help="photos on which budgets are compared")
    parser.add_argument("--no-peers", dest="peers", action="store_const", const=False, help="fusioncam alone")
    parser.add_argument("--no-int8", dest="int8", action="store_const", const=False, help="no int8 bundles")
    parser.add_argument("--quick", action="store_true", help="small networks, few rounds: does it run?")
    parser.add_argument("--draw", action="store_true", help="measure nothing: tables and plots from the last result")
    parser.add_argument("--memory-of-peer", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("-o", "--out", type=Path, metavar="FOLDER", help="where results/, plots/ and README.md are")
    asked = parser.parse_args(arguments)
    if (asked.models is None) != (asked.photos is None):
        parser.error("--models and --photos go together")
    for folder in (asked.models, asked.photos):
        if folder is not None and not folder.is_dir():
            parser.error(f"there is no folder {folder}")
    return asked


def setting_of(asked: argparse.Namespace, folder: Path) -> Any:
    """Return the setting that the arguments ask for."""
    from cpu.setting import Setting
    from cpu.subjects import WANTED

    from fusioncam.runtime.budget import parse_budget

    given: dict[str, Any] = dict(QUICK) if asked.quick else {}
    given |= {k: v for k in ("rounds", "threads", "study", "peers", "int8") if (v := getattr(asked, k)) is not None}
    if asked.networks:
        given["networks"] = tuple(asked.networks)
    if asked.budgets:
        given["budgets"] = tuple(dict.fromkeys(("exact", *map(parse_budget, asked.budgets))))
    if asked.models:
        files = sorted(p for name in WANTED for p in asked.models.glob(f"{name}*.onnx") if "fp16" not in p.stem)
        given |= {"models": tuple(files), "photos": asked.photos}
    return Setting(folder, **given)


def pin(threads: int) -> list[int]:
    """Bind this process and those it starts to as many cores as there are threads, where the system can."""
    if not hasattr(os, "sched_setaffinity"):
        return []
    cores = sorted(os.sched_getaffinity(0))[:threads]
    os.sched_setaffinity(0, cores)
    return cores


def run(setting: Any, stages: Sequence[str], report: dict[str, Any], out: Path) -> bool:
    """Run the stages in order, write the report after each, and return whether all maps were right."""
    from cpu import budgets, side_by_side, sizes
    from gpu.table import lines
    from record import Record, guarded, passed, write

    work: dict[str, Callable[[Record, Any], None]] = {
        "peers": side_by_side.measure, "budgets": budgets.measure, "chunks": sizes.chunks, "channels": sizes.channels,
        "images": sizes.images,
    }  # fmt: skip
    for name in STAGES:
        if name in stages:

            def keep(found: dict[str, Any], name: str = name) -> None:
                report["stages"][name] = found
                report["passed"] = passed(report["stages"])
                write(report, out)

            keep(guarded(lambda record, name=name: work[name](record, setting), keep))  # type: ignore[misc]
            print("\n".join(lines(name, {**report["stages"][name], "figures": []})), flush=True)
    print(f"{'passed' if report['passed'] else 'FAILED'}; everything is in {out}")
    return bool(report["passed"])


def kept(result: Path, report: dict[str, Any]) -> dict[str, Any]:
    """Return the stages of the last result, so that some can be run again; none of another machine or version."""
    if not result.exists():
        return {}
    last = json.loads(result.read_text())
    same = all(last[what] == report[what] for what in ("machine", "versions"))
    return dict(last["stages"]) if same else {}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, draw, and return the exit status."""
    asked = options(arguments)
    sys.path.insert(0, str(HERE))
    if asked.memory_of_peer:
        from cpu.candidates import answer_for_peer

        answer_for_peer()
        return 0
    from cpu.readme import update

    out = asked.out or (HERE.parent / "build" / "bench" if asked.quick else HERE)
    result = out / "results" / "cpu.json"
    if asked.draw:
        update(out, HERE / "README.md")
        return 0
    with tempfile.TemporaryDirectory() as room:
        os.environ["FUSIONCAM_CACHE"] = room  # what was found best on another day does not count
        setting = setting_of(asked, Path(room))
        cores = pin(setting.threads)
        from fusioncam.runtime.bench.machine import describe, versions

        settings = {k: str(v) if k in ("models", "photos") else v for k, v in vars(setting).items() if k[0] != "_"}
        settings = {**settings, "folder": None, "pinned_to": cores, "quick": asked.quick}
        report = {
            "benchmark": "cpu", "schema": 1, "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": describe(), "versions": versions(PACKAGES), "settings": settings, "stages": {},
        }  # fmt: skip
        report["stages"] = kept(result, report)
        right = run(setting, asked.stages, report, result)
    update(out, HERE / "README.md")
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main())
