"""Mutated graphs and pictures through the C++ headers, under the address and undefined-behaviour sanitizers."""

import importlib.util
import json
import os
import random
import shutil
import subprocess
from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime
from platformdirs import user_cache_path

from fuzz.byte_mutations import OF_BYTES
from fuzz.commands import command
from fuzz.model_mutations import NAMES, mutate
from fuzz.sandbox import Outcome, over_limit, run_forked
from fuzz.seeds import write_seeds

ROOT = Path(__file__).resolve().parents[2]
FINDER = ROOT / "tests" / "runtime" / "cpp" / "headers.py"  # finds or fetches the headers of onnxruntime
OPENCV = ("-DFUSIONCAM_WITH_OPENCV", "-isystem", "/usr/include/opencv4")
LIBRARIES = ("-lopencv_imgcodecs", "-lopencv_imgproc", "-lopencv_core")
SANITIZE = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all")
GRAPHS = {"plain": ("--single", "--preset", "torchvision"), "tokens": ("--single",), "residual": ("--single",)}
FORMATS = (".ppm", ".ppm", ".pgm", ".png", ".png", ".jpg", ".jpg", ".webp", ".tiff", ".bmp", ".jp2", ".hdr", ".ras")
SIDE = 40
ENTRIES = (
    "",
    "0",
    "-1",
    "1e999",
    "nan",
    "9" * 400,
    "1 2",
    "1 2 3 4",
    "24 24",
    "x",
    "0x10",
    "1,5",
    "squash",
    "crop",
    "letterbox",
    "cv2-linear",
    *NAMES,
)
# Leaks are looked for at the end of every case. onnxruntime and OpenCV's readers are not compiled with sanitizers.
SETTINGS = {"ASAN_OPTIONS": "quarantine_size_mb=16:allocator_may_return_null=1", "UBSAN_OPTIONS": "print_stacktrace=1"}


class Headers:
    """Cases of the C++ headers.

    Args:
        work: A folder for the program and for what is sound.
    """

    def __init__(self, work: Path) -> None:
        self.driver = build(work)
        seeds = write_seeds(work)
        self.graphs = {}
        for name, options in GRAPHS.items():
            outcome = run_forked(command("export", seeds[name], "-o", work / f"{name}.fcam", *options), work)
            assert outcome.status == 0, outcome.err
            self.graphs[name] = (work / f"{name}.fcam" / "fusioncam.onnx").read_bytes()
        self.rgb = np.random.default_rng(2).integers(0, 256, (SIDE, SIDE, 3), np.uint8)

    def make(self, rng: random.Random, folder: Path) -> list[str]:
        """Write a mutated graph or picture into the folder, and what the driver shall do with it."""
        if rng.random() < 0.5:
            name = rng.choice(list(self.graphs))
            data, done = self.graphs[name], [name]
            if rng.random() < 0.5:
                data = change_metadata(rng, data)
                done.append("change_metadata")
            if len(done) == 1 or rng.random() < 0.2:
                data, more = mutate(rng, data)
                done += more
            (folder / "fusioncam.onnx").write_bytes(data)
            self.rgb.tofile(folder / "rgb")
            asked = ["explain", "fusioncam.onnx", "rgb", SIDE, SIDE, rng.choice((-1, 0, 3))]
        else:
            ending = rng.choice(FORMATS)
            data, done = self._picture(rng, ending), [ending]
            spoiled = bytearray(data)
            for _ in range(rng.choice((1, 1, 2, 4))):
                if spoiled:
                    mutation = rng.choice(OF_BYTES)
                    mutation(rng, spoiled)
                    done.append(mutation.__name__)
            (folder / f"picture{ending}").write_bytes(bytes(spoiled))
            read = "read_ppm" if ending in (".ppm", ".pgm") and rng.random() < 0.7 else "read"
            asked = [read, f"picture{ending}"]
        (folder / "arguments").write_text(json.dumps(list(map(str, asked))))
        return done

    def _picture(self, rng: random.Random, ending: str) -> bytes:
        pixels = self.rgb[: rng.randrange(33, SIDE), : rng.randrange(33, SIDE)]
        if ending == ".pgm":
            pixels = np.ascontiguousarray(pixels[..., 0])
        deep = ending in (".png", ".tiff", ".ppm") and rng.random() < 0.3
        kind = np.float32 if ending == ".hdr" else np.uint16 if deep else np.uint8
        return cv2.imencode(ending, pixels.astype(kind))[1].tobytes()

    def run(self, folder: Path) -> dict[str, tuple[Outcome, str]]:
        """Have the driver do it: by what it did, how it ended, and what is wrong."""
        arguments = json.loads((folder / "arguments").read_text())
        program = [str(self.driver), *arguments]
        outcome = run_forked(lambda: os.execve(self.driver, program, {**os.environ, **SETTINGS}), folder)
        wrong = over_limit(outcome)
        if not wrong and outcome.status != 0:
            wrong = f"exit status {outcome.status}: " + " | ".join(outcome.err.strip().splitlines()[:12])[:1500]
        elif not wrong and (outcome.out.count("\n") != 1 or not outcome.out.startswith(("ok ", "error: "))):
            wrong = f"not one answer of one line: {outcome.out[:300]!r}"
        return {arguments[0]: (outcome, wrong)}


def change_metadata(rng: random.Random, data: bytes) -> bytes:
    """Change the metadata of the graph: another value, none, or the same key twice."""
    model = onnx.ModelProto.FromString(data)
    for _ in range(rng.choice((1, 1, 2))):
        entry = rng.choice(list(model.metadata_props))
        way = rng.random()
        if way < 0.6:
            entry.value = rng.choice(ENTRIES)
        elif way < 0.8:
            at = rng.randrange(len(entry.value) + 1)
            entry.value = entry.value[:at] + rng.choice(("", "0", " ", "\n", "-", "e5", "é")) + entry.value[at + 1 :]
        elif way < 0.9:
            model.metadata_props.remove(entry)
        else:
            model.metadata_props.add(key=entry.key, value=rng.choice(ENTRIES))
    return model.SerializeToString()


def build(work: Path) -> Path:
    """Compile the driver against the library in onnxruntime's Python package; returns the program."""
    (library,) = (Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime.so.*")
    for name in ("libonnxruntime.so", "libonnxruntime.so.1"):
        (work / name).symlink_to(library)
    spec = importlib.util.spec_from_file_location("cpp_headers", FINDER)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    includes = (
        "-I",
        ROOT / "runtime" / "cpp" / "include",
        "-isystem",
        module.headers(user_cache_path("fusioncam-tests")),
    )
    linked = (f"-L{work}", "-lonnxruntime", f"-Wl,-rpath,{work}", *LIBRARIES, "-pthread")
    compiler = shutil.which("g++")
    if compiler is None:
        raise SystemExit("there is no g++")
    parts = (
        compiler,
        "-std=c++17",
        "-O0",  # -O1 takes twice as long to compile, and most of a case is spent in onnxruntime
        "-g",
        *SANITIZE,
        *OPENCV,
        *includes,
        Path(__file__).with_name("driver.cpp"),
        *linked,
    )
    subprocess.run([*map(str, parts), "-o", str(work / "driver")], check=True)
    return work / "driver"
