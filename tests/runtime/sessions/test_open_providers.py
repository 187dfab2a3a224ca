"""Providers that cannot be had, or not as they were asked for; most of it on sessions that are only pretended."""

import os
import shutil
import subprocess
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnxruntime
import pytest

from fusioncam import Explainer
from fusioncam.errors import BundleError, ProviderError
from fusioncam.runtime.providers import table
from fusioncam.runtime.providers.spec import Use
from fusioncam.runtime.providers.table import CPU, CUDA, SHORT, TENSORRT
from fusioncam.runtime.sessions import failures
from fusioncam.runtime.sessions import open as session
from fusioncam.runtime.sessions.run import run


def has(name):
    """Whether this machine really runs the provider."""
    return name in onnxruntime.get_available_providers() and bool(shutil.which("nvidia-smi"))


@pytest.mark.parametrize("name", ["cuda", "tensorrt"])
@pytest.mark.parametrize("form", [lambda n: [n], lambda n: [n, "cpu"], lambda n: [(n, {"device_id": 0})]])
def test_a_gpu_that_is_not_there_is_an_error_and_never_the_cpu(tiny, capfd, name, form):
    if has(SHORT[name].name):
        pytest.skip("this machine may have it")
    with pytest.raises(ProviderError) as caught:
        Explainer(tiny.bundle, providers=form(name))
    message = str(caught.value)
    assert message.startswith(f"the {name} provider cannot be used: ")
    assert message.endswith(", or use the cpu provider")
    ways = (table.GET_BUILD, table.GET_GPU, table.GET_TENSORRT, failures.GET_DRIVER)
    assert any(way in message for way in ways)
    assert "\n" not in message
    assert len(message) < 400
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("given", ["cuda", "tensorrt", "tensorrt,cuda,cpu"])
def test_the_command_line_says_so_in_one_line_and_writes_nothing(tiny, tmp_path, only_line, given):
    if has(CUDA):
        pytest.skip("this machine may have it")
    (tmp_path / "photo.png").touch()
    arguments = [tiny.bundle, tmp_path / "photo.png", "-o", tmp_path / "out", "--providers", given]
    command = [sys.executable, "-m", "fusioncam", "explain", *map(str, arguments)]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert " provider cannot be used: " in only_line(ended.stderr)
    assert not (tmp_path / "out").exists()


def test_a_build_without_the_provider_says_so(tiny, monkeypatch):
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CPU])
    with pytest.raises(ProviderError, match=r"this build of onnxruntime does not have it; .*onnxruntime-gpu"):
        Explainer(tiny.bundle, providers=["cuda", "cpu"])
    with pytest.raises(ProviderError, match="does not have it; install a build that has it"):
        Explainer(tiny.bundle, providers=["XnnpackExecutionProvider"])


@pytest.fixture
def pretend(monkeypatch):
    """Sessions on the given providers that write to the file behind stderr, as onnxruntime's own logger does.

    Gives the providers that each of them was asked for; `error` makes an exception's text of these, or None.
    """

    def replace(actual, error=lambda asked: None, says=b"a warning\n"):
        asked = []

        class Session:
            def __init__(self, path, options, providers, disabled_optimizers, enable_fallback):
                os.write(2, says)
                asked.append(dict(p if isinstance(p, tuple) else (p, {}) for p in providers))
                if error(asked[-1]):
                    raise RuntimeError(error(asked[-1]))

            def get_providers(self):
                return actual

            def get_provider_options(self):
                return asked[-1]

            def get_provider_graph_assignment_info(self):
                return []

        monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
        monkeypatch.setattr(session, "GuardedSession", Session)
        monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CPU, CUDA, TENSORRT])
        return asked

    return replace


def test_a_silent_fallback_is_noticed(tiny, pretend, capfd):
    pretend([CPU])
    with pytest.raises(ProviderError, match=r"cuda provider cannot be used: its libraries .* missing.*; pip install"):
        session.open_session(tiny.bundle / "score.onnx", ["cuda", "cpu"])
    assert capfd.readouterr() == ("", "")


def test_warnings_of_a_provider_that_works_are_passed_on(tiny, pretend, capfd):
    noise = f"[W:onnxruntime:Default, x.cc:856] {session.NOISE} for 'CUDAExecutionProvider' with device_id=0\n"
    pretend([CUDA, CPU], says=noise.encode() + b"a warning\n")
    session.open_session(tiny.bundle / "score.onnx", ["cuda"])
    assert capfd.readouterr() == ("", "a warning\n")


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        ("[ONNXRuntimeError] CUDA failure 2: out of memory", ProviderError, "cuda provider cannot be used: .*chunk"),
        (
            "/x.cc:7 f(TensorRT) Please install TensorRT.",
            ProviderError,
            "tensorrt .* used: Please .*TensorRT; pip inst",
        ),
        ("x.so.9: cannot open; TensorRT EP could not build engine", ProviderError, "tensorrt provider cannot be used"),
        ("[ONNXRuntimeError] INVALID_GRAPH", BundleError, "cannot load .*INVALID_GRAPH; export the model again"),
        ("Load model from {path} failed", BundleError, "cannot load .*cuda.*; export the model again"),
    ],
)
def test_an_exception_is_laid_at_the_right_door(tmp_path, pretend, capfd, error, kind, message):
    path = tmp_path / "cuda" / "score.onnx"
    pretend([], lambda asked: error.format(path=path))
    with pytest.raises(kind, match=message):
        session.open_session(path, ["tensorrt", "cuda", "cpu"])
    assert capfd.readouterr() == ("", "")


def test_the_log_says_more_than_the_exception(tiny, pretend):
    log = b"Failed to load library x.so with error: libcuda.so.1: cannot open shared object file: No such file"
    pretend([], lambda asked: "GetProviderInfo() Provider not available, can't get interface for it", log)
    with pytest.raises(ProviderError, match=r"tensorrt provider cannot be used: libcuda\.so\.1 .* driver"):
        session.open_session(tiny.bundle / "score.onnx", ["tensorrt", "cpu"])


NO_CAPTURE = "This session cannot use the graph capture feature as requested by the user "


def test_a_graph_that_cannot_be_captured_is_opened_without(tiny, pretend):
    asked = pretend([CUDA, CPU], lambda asked: NO_CAPTURE if "enable_cuda_graph" in asked[CUDA] else None)
    use = Use({"image": (8, 3, 24, 32)}, stream=7, capture=True)
    opened = session.open_session(tiny.bundle / "score.onnx", ["cuda", "cpu"], use=use)
    assert [a[CUDA].pop("enable_cuda_graph", None) for a in asked] == ["1", None]
    assert asked[0] == asked[1]
    assert not session.captures(opened)


@pytest.mark.parametrize(("name", "can"), [("cuda", True), ("tensorrt", False)])
def test_capture_that_is_not_refused_is_noticed(tiny, pretend, name, can):
    pretend([SHORT[name].name, CPU])
    assert session.captures(session.open_session(tiny.bundle / "score.onnx", [name], use=Use(capture=True))) == can
    assert not session.captures(session.open_session(tiny.bundle / "score.onnx", [name], use=Use()))


@pytest.mark.parametrize(
    ("name", "options", "small"),
    [
        ("cuda", {"enable_cuda_graph": "1"}, True),
        ("cuda", {}, False),  # cuDNN's plans would be made anew at every change
        ("tensorrt", {"trt_profile_min_shapes": "image:1x3x24x32"}, True),
        ("tensorrt", {"trt_profile_min_shapes": "image:8x3x24x32"}, False),  # the user's own
        ("tensorrt", {"trt_profile_min_shapes": ""}, False),  # refused: TensorRT takes parts of the graph
        ("tensorrt", {}, False),
    ],
)
def test_small_runs_are_for_sessions_that_make_nothing_anew_for_them(name, options, small):
    full = SHORT[name].name
    opened = SimpleNamespace(get_provider_options=lambda: {full: options, CPU: {}})
    assert session.takes_small_runs(opened, full) == small
    assert session.takes_small_runs(opened, CPU)


def test_capture_that_the_user_insists_on_is_an_error(tiny, pretend):
    pretend([CUDA, CPU], lambda asked: f"{NO_CAPTURE} to the {CUDA}")
    with pytest.raises(ProviderError, match=r"cuda provider cannot be used: .*graph capture feature"):
        session.open_session(tiny.bundle / "score.onnx", [("cuda", {"enable_cuda_graph": "1"})], use=Use(capture=True))


def test_a_graph_that_tensorrt_takes_in_parts_is_opened_without_profiles(tiny, pretend):
    refusal = "User needs to provide all the dynamic shape inputs with associated profiles if they want to"
    asked = pretend([TENSORRT, CPU], lambda asked: refusal if "trt_profile_min_shapes" in asked[TENSORRT] else None)
    session.open_session(tiny.bundle / "score.onnx", ["tensorrt"], use=Use({"image": (8, 3, 24, 32)}, half=True))
    assert len(asked) == 2
    assert asked[1] == {TENSORRT: {"device_id": "0", "trt_fp16_enable": "True"}}


def test_the_use_changes_nothing_on_the_cpu(tiny):
    use = Use({"image": (8, 3, 24, 32)}, half=True, device=3, stream=7, capture=True)
    opened = session.open_session(tiny.bundle / "score.onnx", ["cpu"], use=use)
    assert opened.get_provider_options() == {CPU: {}}
    assert not session.captures(opened)
    assert run(opened, ["logits"], {"image": np.zeros((2, 3, 24, 32), np.float32)})[0].shape == (2, 5)


LIBRARY = "{}_10.dll" if os.name == "nt" else "lib{}.so.10"


@pytest.fixture
def wheel(monkeypatch, tmp_path):
    """A folder such as that of TensorRT's wheel, of libraries that cannot be loaded."""
    for name in ("nvonnxparser", "nvinfer", "nvinfer_plugin", "other"):
        (tmp_path / LIBRARY.format(name)).write_text("not a library")
    (tmp_path / "nvinfer.py").touch()
    spec = ModuleSpec("tensorrt_libs", None, is_package=True)
    spec.submodule_search_locations = [str(tmp_path)]
    monkeypatch.setattr(session, "find_spec", {"tensorrt_libs": spec}.get)
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: sys.stdout.write("Failed to load libx.so"))


def test_the_libraries_of_tensorrts_wheel_are_loaded(wheel, monkeypatch, capfd):
    loaded = []
    monkeypatch.setattr(session.ctypes, "CDLL", lambda path, mode: loaded.append((Path(path).name, mode)))
    session._load_wheels([CUDA, CPU])
    assert loaded == []
    session._load_wheels([TENSORRT, CUDA, CPU])
    names = [LIBRARY.format(name) for name in ("nvinfer", "nvinfer_plugin", "nvonnxparser")]
    assert loaded == [(name, session.ctypes.RTLD_GLOBAL) for name in names]
    assert capfd.readouterr() == ("", "")


def test_a_library_that_cannot_be_loaded_is_left_to_onnxruntime(wheel):
    session._load_wheels([TENSORRT])


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
    if has(CUDA):
        pytest.skip("this machine may have it")
    assert subprocess.run([sys.executable, "-c", code], check=True, stdout=-1, text=True).stdout == "refused\n"
