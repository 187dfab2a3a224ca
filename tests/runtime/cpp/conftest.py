"""Builds the C++ library's sample and the tests' driver against the library inside the onnxruntime package."""

import importlib.util
import os
import shutil
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper, parser
from platformdirs import user_cache_path

from fusioncam.export.single import single_graph
from fusioncam.manifest import Preprocessing, read_bundle

HERE = Path(__file__).parent
LIBRARY, FAKES = HERE.parents[2] / "runtime" / "cpp", HERE / "tensorrt"
STRICT = ("-std=c++17", "-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wshadow", "-Werror")
SANITIZE = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all")
CLASSES, LABELS = 5, ("tabby, tabby cat", "crane", "Möwe", "", "blank")

# The interface of a single graph, and maps of some kind: those of the last class are blank.
GRAPH = """
<ir_version: 9, opset_import: ["": 17]>
single (float[1,CHANNELS,H,W] image, int64[1] class_index)
    => (float[1,H,W] fusion_cam, float[1,H,W] grad_cam, float[1,H,W] score_cam, float[1,CLASSES] logits)
{
    c = Conv <pads = [1, 1, 1, 1]> (image, w)
    a = Relu (c)
    p = GlobalAveragePool (a)
    f = Flatten (p)
    logits = MatMul (f, v)
    top = ArgMax <axis = 1, keepdims = 0> (logits)
    minus = Constant <value = int64[1] {-1}> ()
    is_top = Equal (class_index, minus)
    chosen = Where (is_top, top, class_index)
    column = Gather <axis = 1> (v, chosen)
    shape = Constant <value = int64[4] {1, -1, 1, 1}> ()
    weights = Reshape (column, shape)
    weighted = Mul (a, weights)
    one = Constant <value = int64[1] {1}> ()
    sum = ReduceSum <keepdims = 0> (weighted, one)
    positive = Relu (sum)
    most = ReduceMax <keepdims = 1> (positive)
    tiny = Constant <value = float {1e-9}> ()
    least = Max (most, tiny)
    grad_cam = Div (positive, least)
    score_cam = Mul (grad_cam, grad_cam)
    fusion_cam = Sqrt (grad_cam)
}
"""


def metadata(preprocessing, **changed):
    """What the graph says of itself, with changes; None takes a key out."""
    p = preprocessing
    facts = {
        "schema_version": "1",
        "size": "{} {}".format(*p.size),
        "channel_order": p.channel_order if isinstance(p.channel_order, str) else " ".join(map(str, p.channel_order)),
        "rescale": repr(p.rescale),
        "mean": " ".join(map(repr, p.mean)),
        "std": " ".join(map(repr, p.std)),
        "resize": p.resize,
        "crop_fraction": repr(p.crop_fraction),
        "crop_rounding": p.crop_rounding,
        "interpolation": p.interpolation,
        "pad": " ".join(map(repr, p.pad)) if p.resize == "letterbox" else None,
        "pad_place": p.pad_place if p.resize == "letterbox" else None,
        "pad_rounding": p.pad_rounding if p.resize == "letterbox" else None,
        "preprocessing_origin": p.origin,
        "classes": str(CLASSES),
        "ending": "softmax",
        "reach": "reached",
        "layer": "a",
        "source_sha256": "0" * 64,
        "labels": "\n".join(LABELS),
        **changed,
    }
    return {f"fusioncam.{key}": value for key, value in facts.items() if value is not None}


def write_graph(path, preprocessing, weight=1.0, fails=False, **changed):
    """A stand-in for a single graph; `weight` scales all logits, one that `fails` does so from class 2 on."""
    height, width = preprocessing.size
    text = GRAPH.replace("(v, chosen)", "(few, chosen)") if fails else GRAPH
    channels = preprocessing.channels
    text = text.replace("H,W", f"{height},{width}").replace("CLASSES", str(CLASSES)).replace("CHANNELS", str(channels))
    model = parser.parse_model(text)
    rng = np.random.default_rng(5)
    v = (rng.standard_normal((8, CLASSES)) * weight).astype(np.float32)
    v[:, -1] = -np.abs(v[:, -1])
    arrays = {"w": rng.standard_normal((8, channels, 3, 3)).astype(np.float32), "v": v, "few": v[:, :2]}
    used = {name for node in model.graph.node for name in node.input}
    model.graph.initializer.extend(numpy_helper.from_array(a, n) for n, a in arrays.items() if n in used)
    helper.set_model_props(model, metadata(preprocessing, **changed))
    onnx.save(model, path)
    return path


@dataclass
class Built:
    """The programs, and whether they have OpenCV."""

    driver: Path
    sample: Path
    has_opencv: bool


class Driver:
    """The driver under way; it answers commands, and ends by a sanitizer's finding."""

    def __init__(self, program):
        self._process = subprocess.Popen(
            [program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "UBSAN_OPTIONS": "print_stacktrace=1"},
        )

    def ask(self, *words):
        """Sends a command and gives what it answers: (kind of error or "ok", text)."""
        self._process.stdin.write("\t".join(map(str, words)) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise AssertionError(f"the driver ended at {words}: {self._process.communicate()[1]}")
        kind, text = line.rstrip("\n").split(" ", 1)
        return kind.rstrip(":"), text

    def done(self, *words):
        """The same for a command that must succeed: its text."""
        kind, text = self.ask(*words)
        assert kind == "ok", text
        return text

    def finish(self):
        """Ends the driver, which then looks for leaks; whatever a sanitizer finds ends it with another status."""
        _, complaints = self._process.communicate(timeout=60)
        assert self._process.returncode == 0, complaints


def run(*commands):
    """Runs commands side by side."""
    started = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) for command in commands
    ]
    for process in started:
        said, _ = process.communicate()
        assert process.returncode == 0, said


@pytest.fixture(scope="session")
def header_module():
    path = HERE / "headers.py"
    spec = importlib.util.spec_from_file_location("cpp_tests_headers", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def onnxruntime_root(request, tmp_path_factory):
    """A folder as a release of onnxruntime has it: Debian's headers, and the library of the Python package."""
    for tool in ("cmake", "g++"):
        if shutil.which(tool) is None:
            pytest.skip(f"there is no {tool}")
    libraries = list((Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime.so.*"))
    if not libraries:
        pytest.skip("this onnxruntime package has no library to link")
    module = request.getfixturevalue("header_module")
    try:
        headers = module.headers(user_cache_path("fusioncam-tests"))
    except module.MissingHeadersError as error:
        pytest.skip(str(error))
    root = tmp_path_factory.mktemp("onnxruntime")
    (root / "lib").mkdir()
    (root / "include").symlink_to(headers)
    for name in ("libonnxruntime.so", "libonnxruntime.so.1"):
        (root / "lib" / name).symlink_to(libraries[0])
    return root


def build(folder, onnxruntime_root):
    """Installs the library, made with a release archive, and builds the driver as its user, with sanitizers."""
    library, driver, prefix = folder / "library", folder / "driver", folder / "prefix"
    with tarfile.open(folder / "release.tar", "w", dereference=True) as archive:
        archive.add(onnxruntime_root, "release")
    address = f"-DONNXRUNTIME_URL=file://{folder / 'release.tar'}"
    configure = ("cmake", "-S", LIBRARY, "-B", library, address, f"-DCMAKE_INSTALL_PREFIX={prefix}")
    configured = subprocess.run(configure, capture_output=True, text=True, check=False)
    has_opencv = "no OpenCV here" not in configured.stderr
    if configured.returncode:
        run([*configure, f"-DFUSIONCAM_OPENCV={'ON' if has_opencv else 'OFF'}"])
    run(["cmake", "--install", library])
    found = f"-DONNXRUNTIME_ROOT={onnxruntime_root}", f"-DCMAKE_PREFIX_PATH={prefix}"
    run(["cmake", "-S", HERE, "-B", driver, *found, f"-DCOMPONENTS={'opencv' if has_opencv else ''}"])
    run(*(["cmake", "--build", part] for part in (library, driver)))
    (folder / "has_opencv").write_text(str(has_opencv))


@pytest.fixture(scope="session")
def built(onnxruntime_root, once):
    """The installed library's sample, and the driver that is built with it; once per run."""
    folder = once("cpp-build", lambda folder: build(folder, onnxruntime_root))
    has_opencv = (folder / "has_opencv").read_text() == "True"
    return Built(folder / "driver" / "driver", folder / "library" / "fusioncam_overlay", has_opencv)


@pytest.fixture(scope="session")
def start_driver():
    return Driver


@pytest.fixture(scope="session")
def driver(built, start_driver):
    started = start_driver(built.driver)
    yield started
    started.finish()


def run_compiler(*words):
    """Compiles; what g++ says is the failure."""
    done = subprocess.run(["g++", *map(str, words)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.fixture(scope="session")
def compiled():
    return run_compiler


def build_for_tensorrt(folder, onnxruntime_root):
    """Compiles the driver and the sample for TensorRT, where there is no onnxruntime to include."""
    ours = (*STRICT, *SANITIZE, "-I", FAKES, "-I", LIBRARY / "include")
    for source in (FAKES / "driver.cpp", LIBRARY / "sample" / "tensorrt_overlay.cpp", FAKES / "cuda.cpp"):
        run_compiler(*ours, "-c", source, "-o", folder / f"{source.stem}.o")
    theirs = ("-isystem", onnxruntime_root / "include")
    run_compiler(*ours, *theirs, "-c", FAKES / "nvinfer.cpp", "-o", folder / "nvinfer.o")
    fakes, lib = (folder / "cuda.o", folder / "nvinfer.o"), onnxruntime_root / "lib"
    for name in ("driver", "tensorrt_overlay"):
        parts = (folder / f"{name}.o", *fakes, "-L", lib, "-lonnxruntime", f"-Wl,-rpath,{lib}")
        run_compiler(*SANITIZE, *parts, "-pthread", "-o", folder / name)


@pytest.fixture(scope="session")
def tensorrt_programs(onnxruntime_root, once):
    """The folder of the driver and the sample for TensorRT; made once per run."""
    return once("cpp-tensorrt", lambda folder: build_for_tensorrt(folder, onnxruntime_root))


@pytest.fixture(scope="session")
def tensorrt(tensorrt_programs):
    started = Driver(tensorrt_programs / "driver")
    yield started
    started.finish()


@pytest.fixture(scope="session")
def opencv_driver(built, driver):
    if not built.has_opencv:
        pytest.skip("OpenCV's C++ headers are not here")
    return driver


@pytest.fixture(scope="session")
def graph(tmp_path_factory):
    """A sound graph, its preprocessing, and the file."""
    preprocessing = Preprocessing(
        size=(24, 32),
        rescale=1 / 255,
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        resize="crop",
        crop_fraction=0.875,
    )
    return write_graph(tmp_path_factory.mktemp("graph") / "fusioncam.onnx", preprocessing), preprocessing


@pytest.fixture(scope="session")
def make_graph():
    return write_graph


@pytest.fixture(scope="session")
def exported(tiny, tmp_path_factory):
    """A graph that the export made, and its preprocessing."""
    path = tmp_path_factory.mktemp("exported") / "fusioncam.onnx"
    path.write_bytes(single_graph(tiny.bundle))
    return path, read_bundle(tiny.bundle).preprocessing
