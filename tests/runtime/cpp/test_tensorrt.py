"""The C++ headers for TensorRT: with stand-ins for TensorRT and CUDA, which run the graph by onnxruntime's CPU."""

import os
import re
import subprocess
from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest

from fusioncam.errors import UsageError
from fusioncam.runtime.arguments import checked_class
from fusioncam.runtime.photos.decode import read_image
from fusioncam.runtime.photos.geometry import on_photo
from fusioncam.runtime.photos.model_input import preprocess
from fusioncam.runtime.picture import overlay

HERE = Path(__file__).parent
LIBRARY, FAKES = HERE.parents[2] / "runtime" / "cpp", HERE / "tensorrt"
SAMPLE = LIBRARY / "sample" / "tensorrt_overlay.cpp"
STRICT = ("-std=c++17", "-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wshadow", "-Werror")
SANITIZE = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all")
METHODS = ("fusion_cam", "grad_cam", "score_cam")
REAL = "FUSIONCAM_TENSORRT_INCLUDE"  # a folder with NvInferRuntime.h of TensorRT or TensorRT-RTX


@pytest.fixture
def failing(tensorrt):
    """Lets a function of CUDA or TensorRT fail, until the test ends."""
    yield lambda function, after=0: tensorrt.done("fail", function, after)
    tensorrt.done("fail", "", 0)


def engine_of(graph, folder, *odd):
    """The file of an engine for the stand-ins, and what is odd about it."""
    path = folder / "model.engine"
    path.write_text("\n".join(("fake engine", str(graph), *odd)))
    return path


def in_python(path, x, class_index):
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [*METHODS, "logits"]
    feeds = {"image": x[None], "class_index": np.array([class_index], np.int64)}
    return {name: array[0] for name, array in zip(names, session.run(names, feeds), strict=True)}


def compare(to, expected):
    for name, array in expected.items():
        found = np.fromfile(f"{to}.{name}", np.float32).reshape(array.shape)
        np.testing.assert_allclose(found, array, atol=1e-5, rtol=0, err_msg=name)


@pytest.fixture
def photo(tmp_path):
    photo = np.random.default_rng(0).integers(0, 256, (40, 61, 3), np.uint8)
    photo.tofile(tmp_path / "photo")
    return photo, (tmp_path / "photo", *photo.shape[:2])


@pytest.mark.parametrize("index", [-1, 0, 2])
def test_an_exported_graph_gives_the_maps_of_its_engine(tensorrt, exported, photo, tmp_path, index):
    path, preprocessing = exported
    expected = in_python(path, preprocess(photo[0], preprocessing), index)
    told = tensorrt.done("photo", engine_of(path, tmp_path), path, *photo[1], index, tmp_path / "out")
    compare(tmp_path / "out", expected)
    assert int(told.split("\t")[0]) == (expected["logits"].argmax() if index < 0 else index)
    whole = on_photo(expected["fusion_cam"], photo[0].shape[:2], preprocessing)
    found = np.fromfile(tmp_path / "out.fusion_cam.photo", np.float32).reshape(whole.shape)
    np.testing.assert_allclose(found, whole, atol=1e-5, rtol=0)


def test_a_preprocessed_input_and_runs_one_after_another(tensorrt, graph, tmp_path):
    engine = engine_of(graph[0], tmp_path)
    for seed, index in ((1, 2), (2, 0), (1, 2)):
        x = np.random.default_rng(seed).standard_normal((3, 24, 32)).astype(np.float32)
        x.tofile(tmp_path / "x")
        tensorrt.done("input", engine, graph[0], tmp_path / "x", index, tmp_path / "out", *x.shape)
        compare(tmp_path / "out", in_python(graph[0], x, index))


def test_threads_take_turns(tensorrt, graph, photo, tmp_path):
    assert tensorrt.done("threads", engine_of(graph[0], tmp_path), graph[0], *photo[1]) == "80 of 80 equal"


def test_threads_use_the_gpu_of_the_explainer_and_keep_their_own(tensorrt, graph, photo, tmp_path):
    told = tensorrt.done("elsewhere", engine_of(graph[0], tmp_path), graph[0], *photo[1], 1, tmp_path / "out")
    assert told.split()[:3] == ["1", "0", "1"]  # the maker's GPU, the thread's, and the class
    compare(tmp_path / "out", in_python(graph[0], preprocess(photo[0], graph[1]), 1))


def test_the_metadata_are_read_without_onnxruntime(tensorrt, graph, exported, tmp_path):
    """As they are written by onnx and by the export; nothing stays on the GPU when the explainer ends."""
    for path, *_ in (graph, exported):
        said = {p.key.removeprefix("fusioncam."): p.value for p in onnx.load(path).metadata_props}
        height, width = said["size"].split()
        labels = "".join(f"|{label}" for label in said.get("labels", "").split("\n") if "labels" in said)
        found = tensorrt.done("open", engine_of(path, tmp_path), path)
        assert found == f"({height}, {width}) {said['ending']} {said['layer']}{labels}\t0"


def test_files_that_are_no_graph_or_no_engine(tensorrt, graph, tmp_path):
    data, engine = graph[0].read_bytes(), engine_of(graph[0], tmp_path)
    for name, bad in (("cut", data[:-3]), ("text", b"no graph"), ("long", b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\x7f")):
        (tmp_path / name).write_bytes(bad)
        kind, text = tensorrt.ask("open", engine, tmp_path / name)
        assert (kind, text[:11]) == ("BundleError", "cannot read"), text
        assert text.endswith("as an ONNX file; export the model again, with --single")
    (tmp_path / "empty").write_bytes(b"")
    for path, word in ((tmp_path / "empty", "has no fusioncam.schema_version"), (tmp_path, "is no bundle")):
        kind, text = tensorrt.ask("open", engine, path)
        assert (kind, word in text) == ("BundleError", True), text
    for path in (tmp_path / "nowhere", tmp_path, tmp_path / "empty"):
        assert tensorrt.ask("open", path, graph[0]) == (
            "BundleError",
            f"there is no engine {path}: build it of fusioncam.onnx with trtexec or tensorrt_rtx",
        )
    kind, text = tensorrt.ask("open", tmp_path / "text", graph[0])
    assert (kind, text) == (
        "BundleError",
        f"TensorRT cannot load {tmp_path / 'text'}: deserializeCudaEngine was told to fail; build it again with this "
        "version of TensorRT, for this GPU",
    )


def test_changed_metadata_end_in_one_error(tensorrt, graph, tmp_path):
    """Whatever the bytes are: nothing is read beyond them, or the sanitizers end the driver."""
    data, engine = np.frombuffer(graph[0].read_bytes(), np.uint8), engine_of(graph[0], tmp_path)
    rng = np.random.default_rng(8)
    start = graph[0].read_bytes().index(b"fusioncam.") - 8  # the metadata follow the graph
    kinds = set()
    for _ in range(200):
        changed = data.copy()
        changed[rng.integers(start, data.size, rng.integers(1, 5))] = rng.integers(0, 256)
        (tmp_path / "changed").write_bytes(changed.tobytes()[: rng.integers(start, data.size + 1)])
        kinds.add(tensorrt.ask("open", engine, tmp_path / "changed")[0])
    assert kinds <= {"ok", "BundleError"}
    assert "BundleError" in kinds


ODD = {
    "type logits": "output logits is of another type (1, 5), not float32 (1, 5)",
    "type class_index": "input class_index is of another type (1,), not int64 (1,)",
    "format image": "input image is of another layout, float32 (1, 3, 24, 32), not float32 (1, 3, 24, 32)",
    "location class_index": "input class_index is of another layout, int64 (1,), not int64 (1,)",
    "shape image": "input image is float32 (-1, 3, 24, 32), not float32 (1, 3, 24, 32)",
    "mode class_index": "input class_index is missing, not int64 (1,)",
    "without score_cam": "output score_cam is missing, not float32 (1, 24, 32)",
}


@pytest.mark.parametrize("odd", ODD)
def test_an_engine_with_other_inputs_or_outputs(tensorrt, graph, tmp_path, odd):
    engine = engine_of(graph[0], tmp_path, odd)
    expected = f"{engine} is no engine of this bundle's fusioncam.onnx: its {ODD[odd]}; build it of that file, with "
    assert tensorrt.ask("open", engine, graph[0]) == ("BundleError", expected + "fixed shapes")


def test_an_engine_with_more_outputs_or_of_another_bundle(tensorrt, graph, make_graph, tmp_path):
    kind, text = tensorrt.ask("open", engine_of(graph[0], tmp_path, "more debug"), graph[0])
    assert (kind, "it has 7 inputs and outputs;" in text) == ("BundleError", True)
    other = make_graph(tmp_path / "other.onnx", graph[1].model_copy(update={"size": (24, 40)}))
    kind, text = tensorrt.ask("open", engine_of(graph[0], tmp_path), other)
    assert (kind, "is no engine of this bundle's fusioncam.onnx: its input image is" in text) == ("BundleError", True)


OPENING = {
    "cudaGetDevice": ("FusionCamError", "CUDA cannot find a GPU: invalid argument;"),
    "cudaStreamCreateWithFlags": ("FusionCamError", "CUDA cannot use the GPU: invalid argument;"),
    "createInferRuntime": ("FusionCamError", "TensorRT's library cannot start: createInferRuntime was told to fail;"),
    "deserializeCudaEngine": ("BundleError", "model.engine: deserializeCudaEngine was told to fail; build it again"),
    "createExecutionContext": ("FusionCamError", "model.engine: createExecutionContext was told to fail; free memory"),
    "cudaMalloc": ("FusionCamError", "CUDA cannot allocate memory: invalid argument;"),
    "setTensorAddress": ("FusionCamError", "the buffer of image: setTensorAddress was told to fail;"),
}


@pytest.mark.parametrize("function", OPENING)
@pytest.mark.parametrize("after", [0, 3])
def test_a_call_that_fails_while_an_engine_is_opened(tensorrt, graph, tmp_path, failing, function, after):
    """In one line, and with nothing left on the GPU, whichever call it was."""
    failing(function, after)
    kind, text = tensorrt.ask("open", engine_of(graph[0], tmp_path), graph[0])
    if after and function not in ("cudaMalloc", "setTensorAddress"):
        assert kind == "ok"  # there is no such call
        return
    assert kind == OPENING[function][0]
    assert (OPENING[function][1] in text) or after


RUNNING = {
    "cudaSetDevice": "CUDA cannot use the GPU: invalid argument;",
    "cudaMemcpyAsync": "CUDA cannot copy to or from the GPU: invalid argument;",
    "enqueueV3": "TensorRT cannot run the engine: enqueueV3 was told to fail; build it again",
    "kernel": "CUDA cannot run the engine: unspecified launch failure;",
    "cudaStreamSynchronize": "CUDA cannot run the engine: invalid argument;",
}


@pytest.mark.parametrize("function", RUNNING)
@pytest.mark.parametrize("after", [0, 1, 3])
def test_a_call_that_fails_in_a_run(tensorrt, graph, photo, tmp_path, failing, function, after):
    """The run before and the run after it are right, and no copy is left that writes to freed memory."""
    engine, expected = engine_of(graph[0], tmp_path), in_python(graph[0], preprocess(photo[0], graph[1]), 2)
    run = ("photo", engine, graph[0], *photo[1], 2, tmp_path / "out")
    tensorrt.done(*run)
    failing(function, after)
    found = [tensorrt.ask(*run) for _ in range(4)]
    assert ("FusionCamError", RUNNING[function]) in [(kind, text[: len(RUNNING[function])]) for kind, text in found]
    failing("")
    tensorrt.done(*run)
    compare(tmp_path / "out", expected)


def test_a_class_or_numbers_that_cannot_be(tensorrt, graph, make_graph, photo, tmp_path):
    with pytest.raises(UsageError) as error:
        checked_class(5, 5)
    asked = (*photo[1], 5, tmp_path / "out")
    assert tensorrt.ask("photo", engine_of(graph[0], tmp_path), graph[0], *asked) == ("UsageError", str(error.value))
    bad = make_graph(tmp_path / "nan.onnx", graph[1], weight=np.inf)
    kind, text = tensorrt.ask("photo", engine_of(bad, tmp_path), bad, *photo[1], 1, tmp_path / "out")
    assert (kind, text[:22]) == ("NotFiniteError", "the model gives NaN or")


def test_the_sample_writes_the_overlay_of_python(tensorrt_programs, exported, tmp_path):
    path, preprocessing = exported
    noise = np.random.default_rng(6).integers(0, 256, (21, 34, 3), np.uint8)
    cv2.imwrite(str(tmp_path / "photo.ppm"), noise)
    names = (engine_of(path, tmp_path), path, tmp_path / "photo.ppm", tmp_path / "overlay.ppm")
    done = subprocess.run(
        [tensorrt_programs / "tensorrt_overlay", *names, "1"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    pixels = read_image(tmp_path / "photo.ppm")
    saliency = in_python(path, preprocess(pixels, preprocessing), 1)["fusion_cam"]
    drawn = overlay(pixels, on_photo(saliency, pixels.shape[:2], preprocessing))
    assert np.abs(read_image(tmp_path / "overlay.ppm").astype(int) - drawn).max() <= 1
    for words, status, said in (
        ((), 2, "usage: "),
        ((*names, "x"), 2, "error: CLASS"),
        (names[1:] + names[:1], 1, "error: "),
    ):
        done = subprocess.run(
            [tensorrt_programs / "tensorrt_overlay", *words], capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stderr[: len(said)], done.stderr.count("\n")) == (status, said, 1)
    assert len(SAMPLE.read_text().splitlines()) <= 60


@pytest.fixture(scope="module")
def real_headers():
    """Options that let g++ find NVIDIA's own headers."""
    cuda = [p.parent for p in (Path("/usr/local/cuda/include"), *Path("/usr/local").glob("cuda-*/include"))]
    cuda = [f / "include" for f in cuda if (f / "include" / "cuda_runtime_api.h").is_file()]
    folders = [Path(os.environ[REAL])] if os.environ.get(REAL) else []
    folders += [Path("/usr/include/x86_64-linux-gnu"), Path("/usr/include/aarch64-linux-gnu")]
    found = [folder for folder in folders if (folder / "NvInferRuntime.h").is_file()]
    if not found or not cuda:
        pytest.skip(f"there are no headers of TensorRT, set {REAL}, or none of CUDA")
    return ("-isystem", found[0], "-isystem", cuda[0])


def test_the_sample_compiles_with_nvidias_headers(real_headers, compiled):
    compiled(*STRICT, *real_headers, "-I", LIBRARY / "include", "-fsyntax-only", SAMPLE)


def test_nvidias_library_is_asked_and_its_refusal_is_told(
    real_headers, compiled, tensorrt_programs, exported, tmp_path
):
    """TensorRT-RTX starts without a GPU; what it says of a file that is no engine becomes one line."""
    package = pytest.importorskip("onnxruntime_ep_nv_tensorrt_rtx")
    if "class ILogger : public IVersionedInterface" not in (real_headers[1] / "NvInferRuntime.h").read_text():
        pytest.skip("the headers are those of TensorRT 10, whose loggers this library cannot call")
    (library,) = Path(package.__file__).parent.glob("libtensorrt_rtx.so.1.*")
    parts = (
        SAMPLE,
        tensorrt_programs / "cuda.o",
        library,
        f"-Wl,-rpath,{library.parent}",
        *SANITIZE,
        "-o",
        tmp_path / "sample",
    )
    compiled(*STRICT, *real_headers, "-I", LIBRARY / "include", *parts)
    names = (engine_of(exported[0], tmp_path), exported[0], tmp_path / "photo.ppm", tmp_path / "overlay.ppm")
    leaks = {**os.environ, "ASAN_OPTIONS": "detect_leaks=0"}  # the library keeps what it once allocated
    done = subprocess.run([tmp_path / "sample", *names], capture_output=True, text=True, check=False, env=leaks)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert done.stderr.startswith(("error: TensorRT cannot load", "error: TensorRT's library cannot start")), (
        done.stderr
    )


def test_the_program_of_the_documentation_compiles(compiled, tmp_path):
    page = HERE.parents[2] / "docs" / "deploy" / "tensorrt.md"
    (program,) = re.findall(r"^```cpp\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S)
    (tmp_path / "program.cpp").write_text(f"{program}\nint main() {{ explain(); }}\n")
    compiled(*STRICT, "-I", FAKES, "-I", LIBRARY / "include", "-fsyntax-only", tmp_path / "program.cpp")
