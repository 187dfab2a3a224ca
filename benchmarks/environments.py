"""fusioncam installed into fresh environments: is each consistent, left as it was, and are the maps the same?

    python benchmarks/environments.py [--only NAME...] [--folder FOLDER] [--check]

Makes a wheel, and for each row of `ENVIRONMENTS` an environment: first what a team has there, then the wheel with its
extras. Then `pip check` must find nothing, the packages of the team must be as before, and the demo must give the maps
of the first environment. uv installs (`pip install uv`). Its variables count, such as UV_FIND_LINKS for a folder with
torch's CPU build; on PyPI torch for Linux brings gigabytes of CUDA. Writes results/environments.json, with `--only`
beside what is there, and the table of README.md; nothing with `--check`. An environment whose Python is not here is
left out. Exit status 1 if one is not as it should be.
"""

import argparse
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from cpu.readme import fill

HERE = Path(__file__).resolve().parent
RESULTS, README = HERE / "results" / "environments.json", HERE / "README.md"
RIVALS = ("onnxruntime", "opencv-", "numpy", "torch")  # how the packages begin that must stay as they were
SHOWN = ("onnxruntime", "opencv-", "numpy", "onnx", "onnxscript", "typer", "pydantic")
OWN = f"{sys.version_info.major}.{sys.version_info.minor}"
NEAR = 1e-4  # of maps in [0, 1], between builds and versions of the same libraries
MEGABYTE = 1e6
Figures = dict[str, Any]


class Environment(NamedTuple):
    """An environment: what it holds before, fusioncam's extras, what is beside, lowest pins or not, its Python."""

    before: tuple[str, ...] = ()
    extras: str = ""
    beside: tuple[str, ...] = ()
    lowest: bool = False
    python: str = OWN


ENVIRONMENTS = {
    "cpu": Environment(extras="[cpu]"),
    "gpu": Environment(extras="[gpu]"),
    "OpenVINO's runtime": Environment(before=("onnxruntime-openvino", "opencv-python-headless")),
    "ultralytics": Environment(before=("torch==2.13.0", "ultralytics"), beside=("onnxruntime",)),
    "other builds": Environment(before=("onnxruntime-gpu==1.30.0", "opencv-python==4.12.0.88")),
    "lowest": Environment(extras="[cpu,evaluate,serve]", lowest=True),
    **{f"Python {minor}": Environment(extras="[cpu]", python=minor) for minor in ("3.12", "3.13", "3.14")},
}


class FaultError(Exception):
    """A fault of an environment."""


def run(*command: object) -> str:
    """Run a command where no checkout is found, and return what it prints.

    Raises:
        FaultError: It fails.
    """
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    place = tempfile.gettempdir()
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False, env=env, cwd=place)
    if done.returncode:
        lines = (done.stderr + done.stdout).strip().splitlines() or [f"exit status {done.returncode}"]
        raise FaultError(" ".join(lines[-3:]))
    return done.stdout


def uv(*arguments: object) -> str:
    """Run uv and return what it prints."""
    return run(sys.executable, "-m", "uv", "--quiet", *arguments)


def pip(python: Path, *arguments: object) -> str:
    """Run the pip of this process for another interpreter."""
    return run(sys.executable, "-m", "pip", "--python", python, *arguments)


def installed(python: Path) -> dict[str, str]:
    """Return the packages of an environment, with their versions."""
    return {p["name"].lower(): p["version"] for p in json.loads(pip(python, "list", "--format=json"))}


def interpreter(version: str) -> str | None:
    """Return the Python of a version that this machine has, or None."""
    if version == OWN:
        return sys.executable
    try:
        return run(sys.executable, "-m", "uv", "python", "find", "--no-python-downloads", version).strip()
    except FaultError:
        return None


def make(environment: Environment, wheel: Path, folder: Path, scene: Path) -> Figures:
    """Make an environment in a folder and return what was found there.

    Raises:
        FaultError: It cannot be made, is inconsistent, or something in it does not work.
    """
    python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    uv("venv", "--no-python-downloads", "--clear", "--python", interpreter(environment.python), folder)
    before: dict[str, str] = {}
    if environment.before:
        uv("pip", "install", "--python", python, *environment.before)
        before = {name: version for name, version in installed(python).items() if name.startswith(RIVALS)}
    wanted = f"fusioncam{environment.extras} @ {wheel.as_uri()}"
    pins = folder / "pins.txt"
    if environment.lowest:
        extras = [word for name in environment.extras.strip("[]").split(",") for word in ("--extra", name)]
        project = HERE.parent / "pyproject.toml"
        uv("pip", "compile", "--python", python, "--resolution", "lowest-direct", *extras, "-o", pins, project)
    pinned = ["--constraint", pins] if environment.lowest else []
    uv("pip", "install", "--python", python, *pinned, wanted, *environment.beside)
    pip(python, "check")
    packages = installed(python)
    if changed := [f"{name} {version}" for name, version in before.items() if packages.get(name) != version]:
        raise FaultError(f"the install changed {', '.join(changed)}")
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    fusioncam = (python, "-W", "error::RuntimeWarning", "-m", "fusioncam")
    run(*fusioncam, "demo", "-o", folder / "demo")
    if not scene.exists():  # the picture of the first environment: OpenCV 4 draws its edges otherwise than OpenCV 5
        shutil.copyfile(folder / "demo" / "scene.png", scene)
    run(*fusioncam, "explain", folder / "demo" / "shapes.fcam", scene, "-o", folder / "maps")
    with np.load(folder / "maps" / "scene.npz") as stored:
        maps = {name: stored[name] for name in stored.files if stored[name].ndim == 2}
    shown = {name: version for name, version in packages.items() if name.startswith(SHOWN[:2]) or name in SHOWN}
    return {"megabytes": round(size / MEGABYTE), "packages": len(packages), "shown": shown, "maps": maps}


def measure(names: Sequence[str], wheel: Path, folder: Path) -> Figures:
    """Return what was found in each environment; prints a line for each."""
    found: Figures = {}
    reference = None
    for name in names:
        place = folder / name.replace(" ", "-").replace("'", "")
        try:
            if interpreter(ENVIRONMENTS[name].python) is None:
                found[name] = {**ENVIRONMENTS[name]._asdict(), "left_out": "no such Python here"}
                continue
            figures = make(ENVIRONMENTS[name], wheel, place, folder / "scene.png")
            maps = figures.pop("maps")
            reference = reference or maps
            largest = max(float(np.abs(maps[m].astype(float) - reference[m]).max()) for m in reference)
            figures["largest_difference"] = largest
            if maps.keys() != reference.keys() or largest > NEAR:
                raise FaultError(f"maps differ by {largest:.2g}")
        except FaultError as error:
            figures = {"fault": str(error)}
        found[name] = {**ENVIRONMENTS[name]._asdict(), **figures}
        print(f"{name}: {figures.get('fault', 'clean')}", flush=True)
        shutil.rmtree(place, ignore_errors=True)
    return found


def table(found: Figures) -> str:
    """Return the rows as Markdown."""
    lines = [
        "| environment | before | installed | `pip check` | holds | MB | largest difference |",
        "|---|---|---|---|---|---:|---:|",
    ]
    for name, row in found.items():
        wheel = f"fusioncam{row['extras']}"
        cells = [f"{name}, Python {row['python']}" if "Python" not in name else name, " ".join(row["before"])]
        cells.append(" ".join([wheel, *row["beside"]]) + ", lowest versions" * row["lowest"])
        if "shown" not in row:
            cells += [row.get("fault") or row["left_out"], "", "", ""]
        else:
            holds = ", ".join(f"{package} {version}" for package, version in row["shown"].items())
            cells += ["clean", holds, str(row["megabytes"]), f"{row['largest_difference']:.1g}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def store(found: Figures) -> None:
    """Write the figures, beside those of other environments that are there, and the table."""
    before = json.loads(RESULTS.read_text())["environments"] if RESULTS.exists() else {}
    rows = {name: {**before, **found}[name] for name in ENVIRONMENTS if name in before or name in found}
    report = {"when": datetime.now(UTC).date().isoformat(), "environments": rows}
    RESULTS.write_text(json.dumps(report, indent=1) + "\n")
    README.write_text(fill(README.read_text(), {"environments": table(rows)}))


def build_wheel(folder: Path) -> Path:
    """Make the wheel of this checkout."""
    here = ["--no-build-isolation"] if importlib.util.find_spec("hatch_fancy_pypi_readme") else []
    run(sys.executable, "-m", "pip", "wheel", "--no-deps", *here, "--wheel-dir", folder, HERE.parent)
    return next(folder.glob("*.whl"))


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=ENVIRONMENTS, default=None, help="environments to make")
    parser.add_argument("--folder", type=Path, help="where environments are made, one after the other")
    parser.add_argument("--check", action="store_true", help="write no figures")
    given = parser.parse_args(arguments)
    if importlib.util.find_spec("uv") is None:
        print("the environments are made by uv; pip install uv", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        found = measure(given.only or list(ENVIRONMENTS), build_wheel(Path(folder)), Path(folder))
    if not given.check:
        store(found)
    return int(any("fault" in row for row in found.values()))


if __name__ == "__main__":
    sys.exit(main())
