"""Everything there is to know about fusioncam on this machine's GPU, in 15 minutes: is it right, and how fast is it?

    python benchmarks/gpu.py [--minutes N] [--stages STAGE...] [--assets FOLDER] [--dry] [-o RESULT.json]

kernels: every CUDA kernel against its reference. maps: the GPU's maps against the CPU's. rows: questions that only a
GPU answers, each with a verdict. engine: the whole method as one TensorRT engine. bandwidth: every kernel's time
against a copy's. explanations: Fusion-CAM from picture to maps, against its bare passes and against Score-CAM by
others. What matters most comes first, each step gets what is left of the time, in a process of its own. A step that
this machine lacks something for, or that cannot begin in time, says so in the result; exit status 1 if a check fails.

`--dry` goes through all of it on the CPU, with small networks: is the script itself right? `--prepare --bundles FOLDER`
makes bundles and the CPU's maps ahead, on any machine; `--bundles FOLDER` then takes them.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
STAGES = ("kernels", "maps", "rows", "engine", "bandwidth", "explanations")
MODELS, CHUNKS = ("resnet50", "mobilenetv2"), (64, 128, 256, 32, 512)
DRY_MODELS, DRY_CHUNKS = ("residual", "mobile"), (5,)
MINUTES, ENDING = 15.0, 0.1  # the last for what comes before the first step, and after the last
ASSETS = "FUSIONCAM_ASSETS"


def find_package(folder: Path) -> None:
    """Import fusioncam from this checkout where it is not installed; its version then is told from `folder`."""
    if find_spec("fusioncam") is None:
        sys.path.append(str(HERE.parent))
    try:
        version("fusioncam")
    except PackageNotFoundError:
        from fusioncam import __version__

        told = folder / f"fusioncam-{__version__}.dist-info" / "METADATA"
        told.parent.mkdir(parents=True, exist_ok=True)
        told.write_text(f"Metadata-Version: 2.1\nName: fusioncam\nVersion: {__version__}\n")
        sys.path.append(str(folder))


def options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    known = Path(os.environ[ASSETS]) if ASSETS in os.environ else None
    parser.add_argument("--minutes", type=float, default=MINUTES, help="for all of it; begin no step that cannot end")
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=STAGES)
    parser.add_argument("--models", nargs="*", choices=(*MODELS, *DRY_MODELS), help="networks; they need torch")
    parser.add_argument("--assets", type=Path, default=known, help="models/*.onnx and images/; by default the demo's")
    parser.add_argument("--bundles", type=Path, metavar="FOLDER", help="keep bundles and the CPU's maps there")
    parser.add_argument("--prepare", action="store_true", help="only make those; needs no GPU")
    parser.add_argument("--chunks", nargs="+", type=int, help="pictures per run, what matters first")
    parser.add_argument("--device", type=int, default=0, metavar="INDEX")
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    parser.add_argument("--dry", action="store_true", help="on the CPU, with small networks; needs g++ and the tests")
    parser.add_argument("--together", action="store_true", help="all in this process, where a debugger reaches it")
    parser.add_argument("-o", "--out", type=Path, help="by default results/gpu-NAME.json beside this file")
    parser.add_argument("--only", metavar="STEP", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args(arguments)
    if asked.prepare and not asked.bundles:
        parser.error("--prepare keeps what it makes: name a folder with --bundles")
    asked.models = (DRY_MODELS if asked.dry else MODELS) if asked.models is None else asked.models
    asked.chunks = asked.chunks or (DRY_CHUNKS if asked.dry else CHUNKS)
    return asked


def devices_of(asked: argparse.Namespace, folder: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """The GPU behind every launcher that is installed, and why the others are not there."""
    from gpu import dry, machine

    if not asked.dry:
        return machine.open_launchers(asked.device)
    return {"host": dry.device(folder / "dry")}, {"cuda-core": "a dry run has no GPU"}


def described(asked: argparse.Namespace, device: Any, launcher: str) -> dict[str, Any]:
    """Return the head of the report, before anything is measured."""
    from gpu.machine import describe, versions

    settings = {
        **{k: v for k, v in vars(asked).items() if not isinstance(v, Path) and k != "only"},
        "launcher": launcher, "assets": asked.assets is not None,
        "tf32": False, "cudnn_benchmark": False, "nhwc, tensorrt": "with the first chunk only",
        "torch_fp16": "half, channels last", "grad_cam_fp16": "autocast",
    }  # fmt: skip
    return {
        "benchmark": "gpu", "schema": 2, "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": describe(device), "versions": versions(), "settings": settings,
    }  # fmt: skip


def lab_of(asked: argparse.Namespace, folder: Path, device: Any) -> Any:
    """Models and backends; a dry run has small networks."""
    from gpu import dry
    from gpu.files import model_files
    from gpu.lab import Lab

    if asked.dry and find_spec("torch"):
        from networks import NETWORKS

        NETWORKS.update(dry.networks())
    kept = asked.bundles or folder
    kept.mkdir(parents=True, exist_ok=True)
    return Lab(device, kept, model_files(asked.assets))


def prepare(asked: argparse.Namespace, folder: Path) -> int:
    """Make bundles and the CPU's maps, so that no minute of a GPU goes there; the exit status."""
    from gpu.steps import Bench, models
    from gpu.table import lines
    from record import guarded, passed

    bench = Bench(asked, {}, {}, lab_of(asked, folder, None), None, {})
    found = guarded(partial(models, bench))
    print("\n".join(lines("models", found)))
    return 0 if passed({"models": found}) else 1


def measure(asked: argparse.Namespace, folder: Path) -> int:
    """Run all steps, or the only one; the exit status."""
    from gpu import running
    from gpu.machine import slug
    from gpu.steps import EFFORTS, STEPS, Bench, Clock
    from record import guarded, write

    from fusioncam.kernels.device import available

    clock = Clock(asked.minutes - (0 if asked.only else ENDING))
    devices, missing = devices_of(asked, folder)
    if not devices:
        print(f"there is no GPU to measure: {available(asked.device)[1]}", file=sys.stderr)
        return 1
    launcher, device = next(iter(devices.items()))
    effort = EFFORTS["dry" if asked.dry else "quick" if asked.quick else "full"]
    bench = Bench(asked, devices, missing, lab_of(asked, folder, device), clock, effort)
    if asked.only:
        (step,) = (s for s in STEPS if s.name == asked.only)
        write(guarded(partial(step.work, bench), lambda found: write(found, asked.out)), asked.out)
        return 0
    usual = HERE.parent / "build" / "bench" if asked.dry else HERE / "results"
    out = asked.out or usual / f"gpu-{slug('dry' if asked.dry else device.name)}.json"
    if asked.dry:
        print("a dry run on the CPU: it tells nothing of a GPU", flush=True)
    do = partial(running.here, bench) if asked.together else partial(running.apart, asked, folder)
    return 0 if running.run(described(asked, device, launcher), out, asked.stages, clock, do) else 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure; the exit status."""
    asked = options(arguments)
    with tempfile.TemporaryDirectory() as room:
        folder = asked.folder or Path(room)
        sys.path.insert(0, str(HERE))
        try:
            find_package(folder / "package")
            return (prepare if asked.prepare else measure)(asked, folder)
        except ImportError as error:
            print(f"nothing can be measured: {error}; pip install it", file=sys.stderr)
            return 1


if __name__ == "__main__":
    sys.exit(main())
