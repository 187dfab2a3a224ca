"""`benchmarks/engines/`: what the real builder refuses, by the name of the node, and what becomes of its process."""

import shutil
import subprocess

import onnx
import pytest

REFUSED = {
    "(float[4] x) => (int64[1,n] y) {y = NonZero(x)}": "NonZero",
    "(float[4] x) => (float[4] y) {y = Softmax(x)}": "at least 2 dimensions are required",
    "(float[2,4] x) => (float[2,4] y) <float s = {0.1}, int8 z = {3}>"
    "{q = QuantizeLinear(x, s, z) y = DequantizeLinear(q, s, z)}": "Non-zero zero point is not supported",
    "(float[N,6000] x) => (float[N,k] y) <int64[1] k = {4000}> {y, i = TopK(x, k)}": "K exceeds the maximum value",
}


def written(text, path):
    """Write a model in ONNX's text form, its first node called `culprit`, and return its path."""
    model = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["": 18]> agraph {text}')
    model.graph.node[0].name = "culprit"
    onnx.save(model, path)
    return path


@pytest.fixture(scope="module")
def engines(part):
    return part("engines.builder")


@pytest.fixture(scope="module")
def builder(engines):
    try:
        opened = engines.Builder()
    except engines.MissingBuilderError as error:
        pytest.skip(str(error))
    with opened:
        yield opened


@pytest.mark.parametrize("text", REFUSED)
def test_a_refusal_names_the_node(text, builder, tmp_path):
    engine = builder.build(written(text, tmp_path / "m.onnx"))
    assert "culprit" in engine.refusal
    assert REFUSED[text] in engine.refusal
    assert (engine.layers, engine.bytes, engine.seconds) == (None, None, None)


def test_a_batch_is_a_range(builder, tmp_path):
    relu = written("(float[N,4] x) => (float[N,4] y) {y = Relu(x)}", tmp_path / "m.onnx")
    engines = {batch: builder.build(relu, batch) for batch in ((1, 8, 64), (8, 8, 8))}
    assert [engine.refusal for engine in engines.values()] == [None, None]
    assert {engine.layers for engine in engines.values()} == {1}
    wrong = builder.build(relu, (64, 8, 1)).refusal
    assert "MIN<=OPT<=MAX" in wrong
    assert "driver" not in wrong  # of which every message on such a machine would speak


def test_parsing_alone_builds_nothing(builder, tmp_path):
    relu = written("(float[N,4] x) => (float[N,4] y) {y = Relu(x)}", tmp_path / "m.onnx")
    engine = builder.build(relu, parse_only=True)
    assert (engine.refusal, engine.layers, engine.bytes) == (None, 1, None)


def test_only_the_batch_may_be_free(builder, tmp_path):
    free = written("(float[N,3,H,W] x) => (float[N,3,H,W] y) {y = Relu(x)}", tmp_path / "m.onnx")
    assert builder.build(free).refusal == "input x: only the first axis may be free, these are: [0, 2, 3]"


def test_operators_that_the_parser_imports(builder):
    assert builder.knows(["Conv", "Unique", "Softmax", "NoSuchThing"]) == ["Conv", "Softmax"]


LIBRARIES = ("libtensorrt_rtx.so.1.6.0", "libtensorrt_onnxparser_rtx.so.1.6.0")


@pytest.mark.skipif(shutil.which("g++") is None, reason="there is no g++")
def test_another_version_is_refused(engines, tmp_path):
    for name in LIBRARIES:
        source = tmp_path / "library.cpp"
        source.write_text('extern "C" int getInferLibVersion() { return 10600; }')
        subprocess.run(["g++", "-shared", "-fPIC", "-o", tmp_path / name, source], check=True)
    with pytest.raises(engines.MissingBuilderError) as caught:
        engines.Builder(tmp_path)
    assert str(caught.value).startswith("TensorRT-RTX cannot be loaded: version 1.6.0 has tables of its own, not ")
    assert str(caught.value).endswith(engines.INSTALL)


def test_a_folder_without_libraries_is_refused(engines, tmp_path):
    with pytest.raises(engines.MissingBuilderError, match="does not hold one version of TensorRT-RTX"):
        engines.Builder(tmp_path)


def test_a_missing_wheel_is_named(engines, monkeypatch):
    monkeypatch.setattr(engines, "find_spec", lambda name: None)
    with pytest.raises(engines.MissingBuilderError, match=f"{engines.WHEEL} is not installed; pip install"):
        engines.Builder()


# In the place of the real process: says that it is ready, and then does to every question what a test wants.
PROCESS = """
import json, os, sys, time
print(json.dumps({"missing": None}), flush=True)
for line in sys.stdin:
    path = json.loads(line)["path"]
    if path.endswith("crash"): os.abort()
    if path.endswith("leave"): os._exit(3)
    if path.endswith("hang"): time.sleep(60)
    print(json.dumps({"refusal": None, "layers": 1, "bytes": 2, "seconds": 3.0}), flush=True)
"""


@pytest.mark.parametrize(
    ("path", "why"), [("crash", "died of SIGABRT"), ("leave", "ended with status 3"), ("hang", "took more than 0.5 s")]
)
def test_the_end_of_the_process_is_an_answer(path, why, engines, monkeypatch, tmp_path):
    script = tmp_path / "rtx.py"
    script.write_text(PROCESS)
    monkeypatch.setattr(engines, "SCRIPT", script)
    with engines.Builder(tmp_path, seconds=0.5) as builder:
        assert builder.build(tmp_path / path).refusal == f"TensorRT-RTX {why}"
        assert builder.build(tmp_path / "m.onnx") == engines.Engine(None, 1, 2, 3.0)
