import json
import os
import shutil

import numpy as np
import pytest

from fusioncam import Explainer
from fusioncam.errors import BundleError, FusionCamError, UsageError
from fusioncam.manifest import sha256, signed
from fusioncam.runtime.providers import naming as providers
from fusioncam.runtime.providers.table import CPU
from fusioncam.runtime.sessions import failures, native_stderr
from fusioncam.runtime.sessions import open as session
from fusioncam.runtime.sessions.run import run


@pytest.mark.parametrize(
    ("given", "full"),
    [
        (None, [CPU]),
        (("cpu",), [CPU]),
        ([["cuda", {"device_id": 1}]], [("CUDAExecutionProvider", {"device_id": 1})]),
        (["cpu"], [CPU]),
        (["CPU"], [CPU]),
        ([CPU], [CPU]),
        (["cuda", "cpu"], ["CUDAExecutionProvider", CPU]),
        (["tensorrt"], ["TensorrtExecutionProvider"]),
        ([("cuda", {"device_id": 1}), "cpu"], [("CUDAExecutionProvider", {"device_id": 1}), CPU]),
        ([(CPU, {})], [(CPU, {})]),
    ],
)
def test_resolve(given, full):
    assert providers.resolve(given) == full


@pytest.mark.parametrize("given", [["gpu"], ["cpu", "CUDAExecutionprovider "], [("npu", {})]])
def test_an_unknown_provider_is_refused(given):
    with pytest.raises(UsageError, match=r"no execution provider.*cpu, cuda, tensorrt"):
        providers.resolve(given)


@pytest.mark.parametrize("given", ["cpu", b"cpu", 5, {"cpu": {}}, {"cpu"}, iter(["cpu"])])
def test_providers_that_are_no_list_are_refused(given):
    with pytest.raises(UsageError, match=r"^providers must be a list, not .*; pass a list"):
        providers.resolve(given)


@pytest.mark.parametrize(
    "entry", [(), ("cpu",), {}, ("cpu", {}, 3), b"cpu", None, 1, ("cuda", "x"), (None, {}), ("cpu", None), {"cpu": 1}]
)
def test_an_entry_that_is_no_provider_is_refused(entry):
    for given in ([entry], ["cpu", entry], (entry, "cpu")):
        with pytest.raises(UsageError, match=r"^a provider is a name or a pair .*, not "):
            providers.resolve(given)


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (["qnn", "qnn"], "qnn is named twice; name it once"),
        ([("cuda", {"device_id": 0}), ("CUDAExecutionProvider", {"device_id": 1})], "cuda is named twice"),
        (["mine:/a.so", "mine:/b.so"], "mine is named twice"),
        (["cpu", "cpu"], "cpu is named twice"),
        (["cpu", "qnn"], "cpu takes every node, so it comes last; name it after the others, or alone"),
        (["cuda", ("cpu", {}), "tensorrt"], "cpu takes every node"),
        (["cpu:/a.so"], "cpu is a part of onnxruntime; name it without a library"),
    ],
)
def test_a_list_that_contradicts_itself_is_refused(given, why):
    with pytest.raises(UsageError, match=f"^the provider {why}"):
        providers.resolve(given)


@pytest.mark.parametrize("options", [{"a": None}, {"a": [1]}, {1: "a"}, {"a": "1\0"}, {"a": "\udc80"}, {"a\n": 1}])
def test_an_option_that_nobody_meant_is_refused(options):
    with pytest.raises(UsageError, match=r"^option .* of qnn (is .*; give a text|has unprintable characters; correct)"):
        providers.resolve([("qnn", options)])


def test_a_pair_in_place_of_a_list_is_refused():
    with pytest.raises(UsageError, match="a provider is a name or a pair"):
        providers.resolve(("cpu", {}))


def test_no_provider_is_refused():
    with pytest.raises(UsageError, match=r"name at least one provider of cpu, cuda, tensorrt"):
        providers.resolve([])


@pytest.mark.parametrize("value", [True, 1, "1", "True", "true"])
@pytest.mark.parametrize("name", ["tensorrt", "TensorrtExecutionProvider"])
def test_graphs_of_tensorrt_are_refused(name, value):
    with pytest.raises(
        UsageError, match=r"trt_cuda_graph_enable would mix up several sets of buffers; leave the option out"
    ):
        providers.resolve([(name, {"trt_cuda_graph_enable": value}), "cuda", "cpu"])


@pytest.mark.parametrize("value", [False, 0, "0", "False"])
def test_graphs_of_tensorrt_may_be_off(value):
    assert providers.resolve([("tensorrt", {"trt_cuda_graph_enable": value})])


@pytest.mark.parametrize("value", ["1", "True", True, 1])
def test_a_fused_bias_is_refused_where_it_clears_memory_in_use(value):
    with pytest.raises(UsageError, match=r"fuse_conv_bias clears memory that is in use; .* or add prefer_nhwc=1"):
        providers.resolve([("cuda", {"fuse_conv_bias": value})])
    assert providers.resolve([("cuda", {"fuse_conv_bias": value, "prefer_nhwc": value})])
    assert providers.resolve([("cuda", {"fuse_conv_bias": "0"})])


@pytest.mark.parametrize("given", [["cpu"], [CPU], [(CPU, {})], [("cpu", {})], None])
def test_the_cpu_in_every_form_does_not_pad(tiny, counted, pictures, given):
    explainer, counter = counted(tiny.bundle, providers=given, methods=["score_cam"])
    explainer.explain(pictures[0])
    assert counter.batches == [8, 2]


def test_threads_are_passed_on(tiny):
    opened = session.open_session(tiny.bundle / "score.onnx", threads=1)
    assert opened.get_session_options().intra_op_num_threads == 1


def test_the_explain_session_leaves_the_cores_to_the_score_session(tiny, relayed):
    """Its threads would spin on after the explain pass; the score session's are to be ready for the next chunk."""
    _, relays = relayed(tiny.bundle)
    told = [s.get_session_options() for s in (relays.explain, relays.score)]
    with pytest.raises(RuntimeError):
        told[1].get_session_config_entry(session.STOP_SPINNING)
    assert told[0].get_session_config_entry(session.STOP_SPINNING) == "1"


def test_no_memory_pattern_is_kept_for_every_size_of_a_last_chunk(tiny):
    assert not session.open_session(tiny.bundle / "score.onnx").get_session_options().enable_mem_pattern


def test_a_file_that_is_no_graph(tmp_path, capfd):
    (tmp_path / "score.onnx").write_bytes(b"no graph")
    with pytest.raises(BundleError, match=r"cannot load .*score\.onnx.*export the model again"):
        session.open_session(tmp_path / "score.onnx")
    assert capfd.readouterr() == ("", "")


def test_a_run_that_fails_is_one_clear_line(tiny, capfd):
    opened = session.open_session(tiny.bundle / "score.onnx")
    with pytest.raises(FusionCamError, match="onnxruntime cannot run the model: ") as caught:
        run(opened, ["logits"], {"image": np.zeros((1, 3, 7, 7, 1), np.float32)})
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        ("NOT_IMPLEMENTED : cuDNN is not available. Install", failures.GET_GPU),
        ("anything", "export the model again"),
    ],
)
def test_a_run_that_fails_says_what_to_do(error, remedy):
    message = f"onnxruntime cannot run the model: {error}; {remedy}"
    assert str(failures.run_failure(RuntimeError(f"{error}\nmore"))) == message


def test_two_builds_of_onnxruntime_are_told(monkeypatch):
    monkeypatch.setattr(providers, "describe_clash", lambda module: f"two builds of {module}")
    with pytest.warns(RuntimeWarning, match="two builds of onnxruntime"):
        providers.warn_of_clash()


@pytest.fixture
def bundle(tiny, tmp_path):
    return shutil.copytree(tiny.bundle, tmp_path / "copy.fcam")


def test_not_a_bundle(tmp_path):
    (tmp_path / "file").write_text("x")
    for path in (tmp_path, tmp_path / "missing", tmp_path / "file"):
        with pytest.raises(BundleError, match=r"is no bundle: it holds no manifest\.json"):
            Explainer(path)


@pytest.mark.parametrize("name", ["weights.bin", "score.onnx", "explain.onnx"])
def test_a_missing_file(bundle, name):
    (bundle / name).unlink()
    with pytest.raises(BundleError, match=f"lacks {name}"):
        Explainer(bundle)


@pytest.mark.parametrize("name", ["weights.bin", "score.onnx", "explain.onnx"])
def test_a_changed_file(bundle, name):
    data = bytearray((bundle / name).read_bytes())
    data[-1] ^= 1
    (bundle / name).write_bytes(data)
    with pytest.raises(BundleError, match=f"{name} was changed since the export"):
        Explainer(bundle)


@pytest.mark.parametrize(
    "change", [{"schema_version": 2}, {"classes": 0}, {"unheard": 1}, {"labels": ["one"]}, {"layer": None}]
)
def test_a_manifest_of_another_schema(bundle, change):
    manifest = json.loads((bundle / "manifest.json").read_text())
    (bundle / "manifest.json").write_bytes(signed(json.dumps(manifest | change).encode()))
    with pytest.raises(BundleError, match=r"manifest\.json cannot be read or is of another version"):
        Explainer(bundle)


@pytest.mark.parametrize("text", ["", "{", "[]", "\x00"])
def test_a_manifest_that_is_no_json(bundle, text):
    (bundle / "manifest.json").write_text(text)
    with pytest.raises(BundleError, match=r"manifest\.json cannot be read"):
        Explainer(bundle)


def test_a_graph_that_does_not_load_although_its_digest_is_right(bundle):
    (bundle / "score.onnx").write_bytes(b"no graph")
    manifest = json.loads((bundle / "manifest.json").read_text())
    manifest["files"]["score.onnx"] = sha256(bundle / "score.onnx")
    (bundle / "manifest.json").write_bytes(signed(json.dumps(manifest).encode()))
    with pytest.raises(BundleError, match=r"cannot load .*score\.onnx.*; export the model again"):
        Explainer(bundle)


def test_without_a_folder_for_temporary_files_only_what_libraries_write_is_lost(monkeypatch, capfd):
    def nowhere(*_, **__):
        raise FileNotFoundError(2, "No usable temporary directory found")

    monkeypatch.setattr(native_stderr.tempfile, "TemporaryFile", nowhere)
    with native_stderr.native_stderr() as caught:
        os.write(2, b"native")
    assert caught == [""]
    assert capfd.readouterr().err == "native"
