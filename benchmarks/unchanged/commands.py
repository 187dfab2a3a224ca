"""Digests of the output and the files of the command line."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from unchanged.digests import Digests, keys, untimed, untimed_text
from unchanged.subjects import CHUNK, THREADS, Subjects

FIXED = ("--chunk", str(CHUNK), "--threads", str(THREADS))
ENVIRONMENT = {"TERM": "dumb", "COLUMNS": "120", "NO_COLOR": "1", "OMP_NUM_THREADS": str(THREADS)}


def fusioncam(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run one command with the interpreter that runs this, in the current folder."""
    command = [sys.executable, "-m", "fusioncam", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **ENVIRONMENT})


def run(digests: Digests, subjects: Subjects) -> None:
    """Add status, output and files of every command but `serve` and `triton`, which have parts of their own."""
    small = str(subjects.small.folder)
    model = f"{subjects.small.name.removesuffix('-fp32')}.onnx"
    photos = [str(photo) for photo in subjects.photos]
    folder, annotations = _evaluation(subjects)
    explain, evaluate = ("explain", small, *photos, *FIXED), ("evaluate", small, folder, *FIXED, "--json")
    calls: dict[str, tuple[str, ...]] = {
        "inspect all": ("inspect", model, "--all"),
        "explain": (*explain, "-o", "explain", "--json"),
        "explain quietly": (*explain, "-o", "explain quietly", "-q", "--style", "contour", "-k", "2"),
        "explain classes": (
            *explain, "-o", "explain classes", "-c", "3", "-c", "5", "--separate", "--resolution", "photo",
            "--style", "top", "--top", "15", "--budget", "0.2", "--methods", "union_cam,layer_cam,recipro_cam",
        ),
        "explain versus": (*explain, "-o", "explain versus", "-c", "3", "--versus", "5", "--smooth", "flip,noise"),
        "explain above": (*explain, "-o", "explain above", "--above", "0.2", "--budget", "auto", "--colormap", "jet"),
        "evaluate": (*evaluate, "-o", "evaluate", "--metrics", "drop,insertion,deletion,road", "--steps", "8"),
        "evaluate annotated": (
            *evaluate, "-o", "evaluate annotated", "--annotations", annotations, "--target", "annotated", "--sanity",
            "--metrics", "drop", "--budget", "0.2", "--tolerance", "2",
        ),
        "check": ("check", small, "--json"),
        "export": ("export", model, "-o", "exported.fcam", "--preset", "raw", "--json"),
        "export int8": ("export", model, "-o", "exported int8.fcam", "--precision", "int8", "--calibrate", folder),
        "no command": (),
        "no such command": ("camera",),
        "no such option": ("explain", small, photos[0], "--colour", "jet"),
        "no such bundle": ("explain", "nowhere.fcam", photos[0]),
        "no such picture": ("explain", small, "nowhere.png", *FIXED),
        "no such metric": ("evaluate", small, folder, "--metrics", "camera"),
        "no such class": ("explain", small, photos[0], "-c", "10", *FIXED),
    }  # fmt: skip
    calls |= {f"inspect {m.stem}": ("inspect", m.name, "--json") for m in sorted(Path().glob("*.onnx"))}
    for name, arguments in calls.items():
        with digests.part(f"commands/{name}"):
            _add(digests, f"commands/{name}", fusioncam(*arguments))
            if "-o" in arguments:
                digests.add_folder(f"commands/{name}/files", Path(arguments[arguments.index("-o") + 1]))
    with digests.part("commands/bench"):  # measures: only the names of its figures are the same twice
        done = fusioncam("bench", small, photos[0], "--rounds", "1", "--budget", "exact,0.2", *FIXED, "--json", "-q")
        digests.add("commands/bench", [done.returncode, keys(json.loads(done.stdout))])


def _add(digests: Digests, name: str, done: subprocess.CompletedProcess[str]) -> None:
    digests.add(f"{name}/status", done.returncode)
    try:
        printed = json.dumps(untimed(json.loads(done.stdout)))
    except ValueError:
        printed = untimed_text(done.stdout)
    digests.add(f"{name}/stdout", printed)
    digests.add(f"{name}/text", untimed_text(done.stderr))


def _evaluation(subjects: Subjects) -> tuple[str, str]:
    """Return a folder of four photos, and a file of annotations of them by classes of the small model."""
    folder, annotations = Path("photos"), Path("annotations.json")
    folder.mkdir()
    classes = {"winml_cat.jpg": 3, "winml_dog.jpg": 5, "tinygrad_car.jpg": 1, "coral_bird.png": 2}
    for name in classes:
        shutil.copyfile(subjects.assets / "images" / name, folder / name)
    listed = [{"file": name, "accept_classes": [c], "boxes": [[20, 30, 160, 150]]} for name, c in classes.items()]
    annotations.write_text(json.dumps(listed))
    return str(folder), str(annotations)
