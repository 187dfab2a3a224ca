"""Stage `engine`: builders that are not here are pretended, in the shape that NVIDIA documents."""

import ctypes
import enum
import os
import sys
import types
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from fusioncam.errors import ProviderError
from fusioncam.manifest import SINGLE_GRAPH


@pytest.fixture
def record(part):
    return part("record").Record()


@pytest.fixture
def work(part, lab, tmp_path):
    """The single graph of a small network, and its inputs."""
    wanted = lab.reference("residual")
    feeds = {"image": lab.input("residual")[None], "class_index": np.array([wanted.class_index], np.int64)}
    return part("one_engine").Work(lab.single("residual") / SINGLE_GRAPH, feeds, lab.device, tmp_path, 3)


TOOL = """#!{python}
import json, sys
import numpy as np, onnxruntime
given = dict((word.lstrip("-") + "=").split("=", 1) for word in sys.argv[1:])
given = {{name: value.rstrip("=") for name, value in given.items()}}
assert given.keys() >= {{"stronglyTyped", "noTF32"}}
if "refuse" in given["onnx"]:
    print("[E] some line"); print("[E] no importer for NonZero"); sys.exit(1)
assert given["duration"] == "0"
session = onnxruntime.InferenceSession(given["onnx"], providers=["CPUExecutionProvider"])
files = dict(part.split(":", 1) for part in given["loadInputs"].split(","))
types = {{"tensor(float)": np.float32, "tensor(int64)": np.int64}}
shape = {{"image": (1, 3, 24, 24), "class_index": (1,)}}
feeds = {{i.name: np.fromfile(files[i.name], types[i.type]).reshape(shape[i.name]) for i in session.get_inputs()}}
names = [o.name for o in session.get_outputs()]
found = zip(names, session.run(names, feeds))
told = [{{"name": n, "dimensions": "x".join(map(str, a.shape)), "values": a.ravel().tolist()}} for n, a in found]
json.dump(told, open(given["exportOutput"], "w"))
json.dump([{{"computeMs": 2.0}}] * int(given["iterations"]), open(given["exportTimes"], "w"))
"""


@pytest.fixture
def tool(tmp_path, monkeypatch):
    """A command line tool that takes and writes files as trtexec does."""
    if os.name == "nt":
        pytest.skip("a script is no program here")
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "trtexec").write_text(TOOL.format(python=sys.executable))
    (folder / "trtexec").chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))


class Trt(types.ModuleType):
    """A package as tensorrt: its engine is onnxruntime, over the memory it is given."""

    class NetworkDefinitionCreationFlag(enum.IntEnum):
        STRONGLY_TYPED = 5

    class Logger:
        ERROR = 1

        def __init__(self, severity):
            pass

    class Builder:
        def __init__(self, logger):
            pass

        def create_network(self, flags):
            assert flags == 1 << 5
            return types.SimpleNamespace()

        def create_builder_config(self):
            return None

        def build_serialized_network(self, network, config):
            return network.path

    class OnnxParser:
        def __init__(self, network, logger):
            self.network = network

        def parse_from_file(self, path):
            self.network.path = path
            return "refuse" not in path

        def get_error(self, index):
            return types.SimpleNamespace(desc=lambda: "no importer for NonZero")

    class Runtime:
        def __init__(self, logger):
            pass

        def deserialize_cuda_engine(self, plan):
            return Engine(onnxruntime.InferenceSession(plan, providers=["CPUExecutionProvider"]))

    @staticmethod
    def nptype(kind):
        return kind


class Engine:
    def __init__(self, session):
        self.session, self.pointers = session, {}
        self.every = {t.name: t for t in (*session.get_inputs(), *session.get_outputs())}
        self.num_io_tensors = len(self.every)
        self.shapes = {n: [1 if isinstance(d, str) else d for d in t.shape] for n, t in self.every.items()}

    def create_execution_context(self):
        return self

    def get_tensor_name(self, index):
        return [*self.every][index]

    def get_tensor_dtype(self, name):
        return {"float": np.float32, "int64": np.int64, "bool": np.bool_}[self.every[name].type[7:-1]]

    def get_tensor_shape(self, name):
        return self.shapes[name]

    def set_input_shape(self, name, shape):
        self.shapes[name] = shape

    def set_tensor_address(self, name, pointer):
        self.pointers[name] = pointer

    def _over(self, name):
        shape, kind = self.shapes[name], np.dtype(self.get_tensor_dtype(name))
        room = (ctypes.c_byte * (int(np.prod(shape)) * kind.itemsize)).from_address(self.pointers[name])
        return np.frombuffer(room, kind).reshape(shape)

    def execute_async_v3(self, stream):
        feeds = {i.name: self._over(i.name) for i in self.session.get_inputs()}
        names = [o.name for o in self.session.get_outputs()]
        for name, found in zip(names, self.session.run(names, feeds), strict=True):
            self._over(name)[...] = found
        return True


def same(lab, found):
    return all(np.abs(found.maps[m] - w).max() < 1e-4 for m, w in lab.reference("residual").maps.items())


def test_maps_by_a_tool_come_through_files(part, lab, work, tool):
    found = part("one_engine").by_tool("trtexec", work)
    assert same(lab, found)
    assert found.seconds == [0.002] * 3


def test_maps_by_a_package_come_through_device_memory(part, lab, work, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorrt", Trt("tensorrt"))
    found = part("one_engine").by_package("tensorrt", work)
    assert same(lab, found)
    assert len(found.seconds) == 3


def test_maps_by_a_provider(part, lab, work):
    assert same(lab, part("one_engine").by_provider("tensorrt", work))


def test_a_builder_that_refuses_is_a_failed_check_and_one_that_is_not_there_is_left_out(
    part, lab, record, tool, tmp_path, monkeypatch
):
    engine = part("one_engine")
    monkeypatch.setitem(sys.modules, "tensorrt", Trt("tensorrt"))
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
    folder = tmp_path / "refuse"
    folder.mkdir()
    (folder / SINGLE_GRAPH).write_bytes((lab.single("residual") / SINGLE_GRAPH).read_bytes())
    monkeypatch.setattr(part("lab").Lab, "single", lambda self, name: folder)
    engine.check(record, lab, ["residual"], 1)
    failed = {c["what"]: c["reason"] for c in record.checks if not c["ok"]}
    assert failed == {
        "residual, one engine by trtexec: it runs":
            "RuntimeError: trtexec refused the graph, and said: [E] no importer for NonZero",
        "residual, one engine by the Python package tensorrt: it runs":
            "RuntimeError: tensorrt cannot read the graph: no importer for NonZero",
    }  # fmt: skip
    assert [o["what"] for o in record.left_out] == [
        "residual, one engine by tensorrt_rtx", "residual, one engine by the Python package tensorrt_rtx"
    ]  # fmt: skip
    assert len(record.figures) == 2, "both by onnxruntime"


def test_no_benchmark_takes_the_place_of_a_package_of_tensorrt(part):
    builders = part("one_engine").BUILDERS.values()
    packages = {build.args[0] for build in builders if build.func is part("one_engine").by_package}
    assert packages == {"tensorrt", "tensorrt_rtx"}
    benchmarks = Path(part("record").__file__).parent
    assert not packages & {path.stem for path in benchmarks.iterdir()}


def test_a_builder_that_is_not_there_is_asked_once(part, lab, record, monkeypatch):
    engine, asked = part("one_engine"), []

    def missing(work):
        asked.append(work)
        raise ProviderError("it is not there")

    monkeypatch.setattr(engine, "BUILDERS", {"none": missing})
    engine.check(record, lab, ["residual", "mobile"], 1)
    assert (len(asked), len(record.left_out), record.checks) == (1, 1, [])


def test_wrong_maps_of_an_engine_fail(part, lab, record, monkeypatch):
    engine = part("one_engine")

    def wrong(work):
        maps = {m: w + np.float32(0.01) for m, w in lab.reference("residual").maps.items()}
        return engine.Built(maps, 1.0, [0.1], left=2)

    monkeypatch.setattr(engine, "BUILDERS", {"a builder": wrong})
    engine.check(record, lab, ["residual"], 1)
    assert [c["ok"] for c in record.checks] == [False] * 4, "nodes left to the CPU, and three maps"
    assert record.figures[0]["seconds"]["p50"] == 0.1
