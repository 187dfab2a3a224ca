import json
import os
import shutil
import subprocess
import sys
from importlib.metadata import PackageNotFoundError

import numpy as np
import onnxruntime
import pytest

from fusioncam import Explainer
from fusioncam.errors import BundleError, FusionCamError, ProviderError
from fusioncam.manifest import sha256
from fusioncam.runtime import session

CPU = "CPUExecutionProvider"


def has(name):
    """Whether this machine really runs the provider."""
    return name in onnxruntime.get_available_providers() and bool(shutil.which("nvidia-smi"))


@pytest.mark.parametrize(
    ("given", "full"),
    [
        (None, [CPU]),
        ([], [CPU]),
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
    assert session.resolve(given) == full


@pytest.mark.parametrize("given", [["gpu"], ["cpu", "CUDAExecutionprovider "], [("npu", {})]])
def test_an_unknown_provider_is_refused(given):
    with pytest.raises(ProviderError, match=r"no execution provider.*cpu, cuda, tensorrt"):
        session.resolve(given)


@pytest.mark.parametrize("given", [["cpu"], [CPU], [(CPU, {})], [("cpu", {})], None])
def test_the_cpu_in_every_form_does_not_pad(tiny, counted, pictures, given):
    explainer, counter = counted(tiny.bundle, providers=given, methods=["score_cam"])
    explainer.explain(pictures[0])
    assert counter.batches == [8, 2]


@pytest.mark.parametrize("name", ["cuda", "tensorrt"])
@pytest.mark.parametrize("form", [lambda n: [n], lambda n: [n, "cpu"], lambda n: [(n, {"device_id": 0})]])
def test_a_gpu_that_is_not_there_is_an_error_and_never_the_cpu(tiny, capfd, name, form):
    if has(session.SHORT[name]):
        pytest.skip("this machine may have it")
    with pytest.raises(ProviderError) as caught:
        Explainer(tiny.bundle, providers=form(name))
    message = str(caught.value)
    assert message.startswith(f"the {name} provider cannot be used: ")
    assert "cpu provider" in message
    assert "\n" not in message
    assert len(message) < 400
    assert capfd.readouterr() == ("", "")


def test_a_build_without_the_provider_says_so(tiny, monkeypatch):
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CPU])
    with pytest.raises(ProviderError, match="cuda provider cannot be used: this build of onnxruntime does not have it"):
        Explainer(tiny.bundle, providers=["cuda"])


@pytest.fixture
def pretend(monkeypatch):
    """A session on the given providers that writes a line to the file behind stderr, as onnxruntime's own logger."""

    def replace(actual, error=None):
        class Session:
            def __init__(self, path, options, providers, disabled_optimizers, enable_fallback):
                os.write(2, b"a warning\n")
                if error:
                    raise RuntimeError(error)

            def get_providers(self):
                return actual

        monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
        monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [*session.SHORT.values()])

    return replace


def test_a_silent_fallback_is_noticed(tiny, pretend, capfd):
    pretend([CPU])
    with pytest.raises(ProviderError, match="cuda provider cannot be used: its libraries or its device are missing"):
        session.open_session(tiny.bundle / "score.onnx", ["cuda", "cpu"])
    assert capfd.readouterr() == ("", "")


def test_warnings_of_a_provider_that_works_are_passed_on(tiny, pretend, capfd):
    pretend(["CUDAExecutionProvider", CPU])
    session.open_session(tiny.bundle / "score.onnx", ["cuda"])
    assert capfd.readouterr() == ("", "a warning\n")


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        ("[ONNXRuntimeError] CUDA failure 2: out of memory", ProviderError, "cuda provider cannot be used: .*memory"),
        ("/x.cc:7 f(TensorRT) Please install TensorRT", ProviderError, "tensorrt provider cannot be used: Please"),
        ("[ONNXRuntimeError] INVALID_GRAPH", BundleError, "cannot load .*INVALID_GRAPH; export the model again"),
    ],
)
def test_an_exception_is_laid_at_the_right_door(tiny, pretend, capfd, error, kind, message):
    pretend([], error)
    with pytest.raises(kind, match=message):
        session.open_session(tiny.bundle / "score.onnx", ["tensorrt", "cuda", "cpu"])


def test_a_process_without_stderr(tiny):
    code = f"""if True:
        import os
        from fusioncam import Explainer
        from fusioncam.errors import ProviderError
        os.close(2)
        try:
            Explainer({str(tiny.bundle)!r}, providers=["cuda"])
        except ProviderError:
            print("refused")
    """
    if has("CUDAExecutionProvider"):
        pytest.skip("this machine may have it")
    assert subprocess.run([sys.executable, "-c", code], check=True, stdout=-1, text=True).stdout == "refused\n"


@pytest.mark.parametrize(
    ("log", "reason"),
    [
        (
            "x Failed to load library a.so with error: libcublas.so.13: cannot open\nmore",
            "libcublas.so.13: cannot open",
        ),
        ("[E: file.cc:1] CUDA failure 100: no CUDA-capable device is detected\n", "CUDA failure 100: no CUDA-capable"),
        ("", "its libraries or its device are missing"),
    ],
)
def test_the_reason_is_read_from_the_log(log, reason):
    assert session._reason(log).startswith(reason)


def test_threads_are_passed_on(tiny):
    opened = session.open_session(tiny.bundle / "score.onnx", threads=1)
    assert opened.get_session_options().intra_op_num_threads == 1


def test_a_file_that_is_no_graph(tmp_path, capfd):
    (tmp_path / "score.onnx").write_bytes(b"no graph")
    with pytest.raises(BundleError, match=r"cannot load .*score\.onnx.*export the model again"):
        session.open_session(tmp_path / "score.onnx")
    assert capfd.readouterr() == ("", "")


def test_a_run_that_fails_is_one_clear_line(tiny, capfd):
    opened = session.open_session(tiny.bundle / "score.onnx")
    with pytest.raises(FusionCamError, match="onnxruntime cannot run the model: ") as caught:
        session.run(opened, ["logits"], {"image": np.zeros((1, 3, 7, 7, 1), np.float32)})
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("installed", [["onnxruntime"], ["onnxruntime-gpu"], []])
def test_one_onnxruntime_is_no_clash(monkeypatch, installed):
    monkeypatch.setattr(session, "version", versions(installed))
    session.warn_of_clash()


def test_two_onnxruntimes_clash(monkeypatch):
    monkeypatch.setattr(session, "version", versions(["onnxruntime", "onnxruntime-gpu"]))
    with pytest.warns(RuntimeWarning, match=r"onnxruntime 1\.9 and onnxruntime-gpu 1\.9 .*pip uninstall both"):
        session.warn_of_clash()


def versions(installed):
    def version(name):
        if name not in installed:
            raise PackageNotFoundError(name)
        return "1.9"

    return version


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
    (bundle / "manifest.json").write_text(json.dumps(manifest | change))
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
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match="onnxruntime cannot load"):
        Explainer(bundle)
