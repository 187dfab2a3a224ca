"""Everything there is to know about fusioncam on this machine's GPU: is it right, and then, how fast is it?

    python benchmarks/gpu.py [--quick] [--stages kernels maps bandwidth explanations] [-o RESULT.json]

kernels: every CUDA kernel against its reference. maps: the GPU's maps against the CPU's. bandwidth: every kernel's
time against a copy's. explanations: Fusion-CAM from picture to maps, against its bare passes and against Score-CAM by
others. A stage that this machine lacks something for says so in the result; exit status 1 if a check fails.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
STAGES = ("kernels", "maps", "bandwidth", "explanations")
MODELS, CHUNKS = ("resnet50", "mobilenetv2"), (64, 128, 256, 32, 512)
FULL = {"timing": {"samples": 40}, "rounds": {"rounds": 20, "least": 5, "seconds": 5.0}}
QUICK = {"timing": {"samples": 10}, "rounds": {"rounds": 5, "least": 3, "seconds": 1.0}}


def find_package(folder: Path) -> None:
    """Import fusioncam from this checkout where it is not installed; its version then is told from `folder`."""
    if find_spec("fusioncam") is None:
        sys.path.append(str(HERE.parent))
    try:
        version("fusioncam")
    except PackageNotFoundError:
        from fusioncam import __version__

        told = folder / f"fusioncam-{__version__}.dist-info" / "METADATA"
        told.parent.mkdir(parents=True)
        told.write_text(f"Metadata-Version: 2.1\nName: fusioncam\nVersion: {__version__}\n")
        sys.path.append(str(folder))


def options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line's."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=STAGES)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=MODELS)
    parser.add_argument("--chunks", nargs="+", type=int, default=CHUNKS, help="pictures per run, what matters first")
    parser.add_argument("--device", type=int, default=0, metavar="INDEX")
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    parser.add_argument("--minutes", type=float, default=6.0, help="begin no further setting after so long")
    parser.add_argument("-o", "--out", type=Path, help="by default results/gpu-NAME.json beside this file")
    return parser.parse_args(arguments)


def stages(
    asked: argparse.Namespace, devices: dict[str, Any], missing: dict[str, str], folder: Path
) -> dict[str, Callable[[Any], None]]:
    """What each stage does, by name; modules are imported by the stage, so that one that is missing stops it alone."""
    device = next(iter(devices.values()))
    effort: dict[str, Any] = QUICK if asked.quick else FULL
    deadline = time.perf_counter() + 60 * asked.minutes
    shared: list[Any] = []

    def lab() -> Any:
        from gpu.lab import Lab

        if not shared:
            shared.append(Lab(device, folder))
        return shared[0]

    def kernels(record: Any) -> None:
        from gpu.kernels import check

        check(record, devices, missing)

    def maps(record: Any) -> None:
        from gpu.maps import check

        check(record, lab(), asked.models, asked.chunks[0])

    def bandwidth(record: Any) -> None:
        from gpu.bandwidth import Effort, measure
        from gpu.cases import cases
        from gpu.machine import L2_CACHE_SIZE, attribute

        l2_bytes = attribute(device, L2_CACHE_SIZE) if device.memory == "cuda" else 0
        measure(record, device, cases(), Effort(**effort["timing"]), l2_bytes)

    def explanations(record: Any) -> None:
        from gpu.explanations import Plan, measure

        plan = Plan(asked.models, asked.chunks, deadline=deadline, **effort["rounds"])
        measure(record, lab(), plan)

    return {"kernels": kernels, "maps": maps, "bandwidth": bandwidth, "explanations": explanations}


def run(asked: argparse.Namespace, work: dict[str, Callable[[Any], None]], report: dict[str, Any], out: Path) -> bool:
    """Run the stages in their order, and write the report after each; whether all checks passed."""
    from gpu.table import lines
    from record import guarded, passed, write

    report["stages"] = {}
    for name in STAGES:
        if name in asked.stages:

            def keep(found: dict[str, Any], name: str = name) -> None:
                report["stages"][name] = found
                report["passed"] = passed(report["stages"])
                write(report, out)

            keep(guarded(work[name], keep))
            print("\n".join(lines(name, report["stages"][name])), flush=True)
    print(f"{'passed' if report['passed'] else 'FAILED'}; everything is in {out}")
    return bool(report["passed"])


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure; the exit status."""
    asked = options(arguments)
    with tempfile.TemporaryDirectory() as room:
        folder = Path(room)
        sys.path.insert(0, str(HERE))
        try:
            find_package(folder / "package")
            from gpu.machine import describe, open_launchers, slug, versions

            from fusioncam.kernels.device import available
        except ImportError as error:
            print(f"nothing can be measured: {error}; pip install it", file=sys.stderr)
            return 1
        devices, missing = open_launchers(asked.device)
        if not devices:
            print(f"there is no GPU to measure: {available(asked.device)[1]}", file=sys.stderr)
            return 1
        device = next(iter(devices.values()))
        settings = {
            **{k: v for k, v in vars(asked).items() if k != "out"}, "launcher": next(iter(devices)),
            "tf32": False, "cudnn_benchmark": False, "nhwc, tensorrt": "with the first chunk only",
            "torch_fp16": "half, channels last", "grad_cam_fp16": "autocast",
        }  # fmt: skip
        report = {
            "benchmark": "gpu", "schema": 1, "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": describe(device), "versions": versions(), "settings": settings,
        }  # fmt: skip
        out = asked.out or HERE / "results" / f"gpu-{slug(device.name)}.json"
        return 0 if run(asked, stages(asked, devices, missing, folder), report, out) else 1


if __name__ == "__main__":
    sys.exit(main())
