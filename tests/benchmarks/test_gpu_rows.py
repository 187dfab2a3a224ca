"""Rows of `benchmarks/gpu.py`: how measurements become verdicts, and what is counted."""

import re
import threading
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from fusioncam.errors import ProviderError
from fusioncam.manifest import SCORE_GRAPH


@pytest.fixture
def record(part):
    return part("record").Record()


@pytest.fixture
def setting(part):
    return part("rows.passes").Setting("residual", 5, 2)


def test_the_rows_are_those_of_the_findings_in_their_order(part):
    rows = part("rows").ROWS
    assert [row.number for row in rows] == [1, 9, 2, 3, 8, 7, 5, 6, 10]
    assert all(row.question.endswith("?") for row in rows)
    told = (Path(__file__).parents[2] / "docs" / "deploy" / "gpu.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| row (\d+) \|", told, re.MULTILINE) == [str(row.number) for row in rows]


def test_a_row_without_its_provider_is_left_out(part, lab, setting, record, monkeypatch):
    rows, passes = part("rows"), part("rows.passes")
    monkeypatch.setattr(passes.onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    gpu = part("lab").Lab(type("Gpu", (), {"memory": "cuda"})(), lab.folder)
    rows.answer(record, rows.ROWS[0], gpu, setting)
    assert record.figures == []
    (left,) = record.left_out
    assert left["what"] == "row 1"
    assert "has no CUDAExecutionProvider here; install onnxruntime-gpu" in left["why"]
    with pytest.raises(ProviderError, match="no TensorrtExecutionProvider"):
        passes.need(gpu, "TensorrtExecutionProvider")


@pytest.mark.parametrize(("exact", "word"), [(2.0, "slower"), (1.1, "no slower")])
def test_tensor_cores_are_missed_where_float16_is_slower_without_tf32(
    part, lab, setting, record, monkeypatch, exact, word
):
    chunks = part("rows.chunks")
    times = {"0": exact, "1": 1.0}
    told = []
    monkeypatch.setattr(chunks.Passes, "time", lambda self, *runs, samples: {"p50": times[told[-1]]})
    opened = chunks.Passes.__init__

    def watched(self, lab, name, precision, most, options):
        told.append(options["use_tf32"])
        opened(self, lab, name, precision, most, options)

    monkeypatch.setattr(chunks.Passes, "__init__", watched)
    verdict = chunks.tensor_cores(record, lab, setting)
    assert f"fp16: {1e3 * exact:.2f} ms with use_tf32=0, 1000.00 ms with 1, so 0 is {word}" in verdict
    assert told == ["0", "1"] * 2
    assert [f["precision"] for f in record.figures] == ["fp16", "fp16", "fp32", "fp32"]
    assert all(f["tflops"] > 0 for f in record.figures)


def test_a_change_of_the_batch_costs_what_turns_take_more(part, lab, setting, record, monkeypatch):
    chunks = part("rows.chunks")
    monkeypatch.setattr(chunks.Passes, "time", lambda self, *runs, samples: {"p50": 1.0 if len(runs) == 1 else 5.0})
    assert "between 5 and 4 costs 1500.00 ms without" in chunks.change_of_batch(record, lab, setting)
    assert [f["change_seconds"] for f in record.figures] == [1.5, 1.5]


def test_the_layouts_are_compared_with_the_default(part, lab, setting, record, monkeypatch):
    chunks = part("rows.chunks")
    times, right = {"00": 4.0, "10": 2.0, "11": 1.0}, np.ones((5, 6), np.float32)

    def timed(record, lab, setting, precision, options):
        key = "".join(options.values())
        if (precision, key) == ("fp32", "10"):
            raise RuntimeError("an operator is not there in this layout")
        return times[key], right * (2 if (precision, key) == ("fp32", "11") else 1)

    monkeypatch.setattr(chunks, "_timed", timed)
    verdict = chunks.layouts(record, lab, setting)
    assert "fp16: best with prefer_nhwc=1, fuse_conv_bias=1, 1000.00 ms, 4.00 x as fast as the first" in verdict
    assert "fp32: best with prefer_nhwc=0, fuse_conv_bias=0, 4000.00 ms, 1.00 x as fast as the first" in verdict
    wrong = [c["what"] for c in record.checks if not c["ok"]]
    assert wrong == [
        "fp32, prefer_nhwc=1, fuse_conv_bias=0: it runs",
        "fp32, prefer_nhwc=1, fuse_conv_bias=1: logits are those of the first layout",
    ]


def test_a_replay_that_changed_is_found(part, lab, setting, record, monkeypatch):
    captures = part("rows.captures")
    assert captures.survives(record, lab, setting) == "nothing was captured"
    logits, calls = captures.Passes.logits, []

    def changed(self, run, count):
        calls.append(count)
        return logits(self, run, count) + (len(calls) == 2)

    monkeypatch.setattr(captures.Passes, "logits", changed)
    captures.survives(record, lab, setting)
    assert [c["ok"] for c in record.checks] == [True, False]


def test_engines_that_break_beside_others_are_counted(part, lab, setting, record, monkeypatch):
    captures, opened = part("rows.captures"), []

    def opening(self, *arguments, **options):
        opened.append(arguments)
        if len(opened) == 2:
            raise RuntimeError("CUDA failure 900: operation not permitted when stream is capturing")
        return plain(self, *arguments, **options)

    plain = part("lab").Lab.open
    monkeypatch.setattr(part("lab").Lab, "open", opening)
    verdict = captures.beside_others(record, lab, setting)
    assert ", 1 broke, 0 gave wrong maps, 0 have CUDA graphs" in verdict
    assert [c["ok"] for c in record.checks] == [False, True]
    (figure,) = record.figures
    assert figure["others"]["errors"] == []
    assert figure["others"]["memory"] > 0


def test_threads_that_break_or_leave_memory_are_found(part, lab, setting, record, monkeypatch):
    callers, calls, free = part("rows.callers"), [], [40 << 20, 8 << 20]
    assert "which leave 0 MiB behind" in callers.callers(record, lab, setting)
    assert all(c["ok"] for c in record.checks)

    def breaks(*arguments):
        calls.append(threading.current_thread() is threading.main_thread())
        if len(calls) == 4:
            raise RuntimeError("CUDA failure 900")
        return plain(*arguments)

    plain = callers.explain
    monkeypatch.setattr(callers, "explain", breaks)
    monkeypatch.setattr(callers, "free_memory", lambda device: free.pop(0))
    assert "which leave 32 MiB behind" in callers.callers(record, lab, setting)
    assert calls == [True] * 3 + [False] * callers.THREADS
    assert [c["ok"] for c in record.checks[-2:]] == [False, False]


def test_pictures_are_counted_by_their_runs(part, lab, record, setting):
    explaining = part("rows.explaining")
    explaining.padding(record, lab, setting)
    first, _ = record.figures
    assert first["chunk"] == 5
    assert first["pictures"] == sum(n * times for n, times in first["runs"].items()) >= first["passes"] == 16 + 4


def test_a_session_that_counts_is_the_session(part, lab):
    counted, runs = part("rows.explaining").Counted, Counter()

    class Session:
        def io_binding(self):
            return self

        def bind_input(self, *given):
            self.given = given

        def run_with_iobinding(self, binding, options):
            assert (binding, options) == (self, "options")

        def get_inputs(self):
            return "inputs"

    session = Session()
    watched = counted(session, runs)
    binding = watched.io_binding()
    binding.bind_input("image", "cuda", 0, np.float32, [7, 3, 2, 2], 64)
    for _ in range(3):
        watched.run_with_iobinding(binding, "options")
    assert (runs, watched.get_inputs(), session.given[-1]) == (Counter({7: 3}), "inputs", 64)


def test_cancelling_and_progress_are_timed(part, lab, setting, record):
    verdict = part("rows.explaining").progress(record, lab, setting)
    assert "half the passes are reported after" in verdict
    (figure,) = (f for f in record.figures if "half_reported_at" in f)
    assert 0 < figure["half_reported_at"]["p50"] < 1
    assert figure["cancelled_seconds"]["count"] == 2


def test_parts_are_counted_by_provider(part):
    def piece(name, nodes):
        return SimpleNamespace(ep_name=name, get_nodes=lambda: [None] * nodes)

    session = SimpleNamespace(
        get_providers=lambda: ["Tensorrt", "CPUExecutionProvider"],
        get_provider_graph_assignment_info=lambda: [piece("Tensorrt", 30), piece("CPU", 1), piece("Tensorrt", 9)],
    )
    found = part("rows.passes").partitions(session)
    assert found == {"Tensorrt": {"parts": 2, "nodes": 39}, "CPU": {"parts": 1, "nodes": 1}}


def test_operations_are_those_of_convolutions_and_products(part, tmp_path):
    w, v = np.zeros((8, 2, 3, 3), np.float32), np.zeros((5, 8), np.float32)
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], pads=[1] * 4, group=2),
        helper.make_node("GlobalAveragePool", ["c"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("Gemm", ["f", "v"], ["y"], transB=1),
    ]
    graph = helper.make_graph(
        nodes, "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 4, 6, 7])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 5])],
        [numpy_helper.from_array(w, "w"), numpy_helper.from_array(v, "v")],
    )  # fmt: skip
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), tmp_path / "m.onnx")
    assert part("rows.passes").operations(tmp_path / "m.onnx") == 2 * 8 * 6 * 7 * 2 * 9 + 2 * 5 * 8


def test_operations_of_a_network(part, lab):
    counted = []
    network = lab.network("residual")
    hooks = [
        m.register_forward_hook(lambda m, given, made: counted.append(made[0].numel() * m.weight[0].numel()))
        for m in network.modules()
        if isinstance(m, torch.nn.Conv2d | torch.nn.Linear)
    ]
    network(torch.zeros(1, 3, 24, 24))
    for hook in hooks:
        hook.remove()
    assert part("rows.passes").operations(lab.bundle("residual", "fp16")[0] / SCORE_GRAPH) == 2 * sum(counted)
