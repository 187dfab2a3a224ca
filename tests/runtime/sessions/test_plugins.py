"""Plugins of providers: real wheels where they are installed, and small libraries of C for all that can be wrong."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import onnxruntime
import pytest

from fusioncam.errors import ProviderError, UsageError
from fusioncam.runtime.providers.naming import resolve, spec_of
from fusioncam.runtime.providers.table import PROVIDERS, SHORT
from fusioncam.runtime.sessions import plugins
from fusioncam.runtime.sessions.open import open_session
from fusioncam.runtime.sessions.plugins import plugin_devices

FACTORIES = "void* CreateEpFactories(const char* n, const Base* base, const void* l, void** f, size_t m, size_t* count)"
LIBRARY = """
#include <stddef.h>
#include <stdint.h>
typedef struct {{ const void* (*GetApi)(uint32_t); const char* (*GetVersionString)(void); }} Base;
typedef void* (*CreateStatus)(int, const char*);
{}
"""
RELEASE = "void* ReleaseEpFactory(void* factory) { return 0; }"
SOURCES = {
    "nothing": "int nothing;",
    "no_factories": f"{FACTORIES} {{ *count = 0; return 0; }} {RELEASE}",
    "newer": f"""{FACTORIES} {{
        if (base->GetApi(99)) return 0;
        return ((CreateStatus) *(void**) base->GetApi(24))(1, "Failed to get ORT API version 99");
    }} {RELEASE}""",
    "crash": f"{FACTORIES} {{ *(volatile int*) 0 = 1; return 0; }} {RELEASE}",
}


@pytest.fixture(scope="session")
def libraries(tmp_path_factory):
    """Libraries by name, as onnxruntime may be given them."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or sys.platform != "linux":
        pytest.skip("needs a C compiler (cc) on Linux")
    folder = tmp_path_factory.mktemp("libraries")
    for name, source in SOURCES.items():
        (folder / f"{name}.c").write_text(LIBRARY.format(source))
        subprocess.run([compiler, "-shared", "-fPIC", "-o", folder / f"{name}.so", folder / f"{name}.c"], check=True)
    (folder / "text.so").write_text("no library")
    return folder


def installed(short):
    """Skip the test where the wheel of a plugin is not installed."""
    module = SHORT[short].plugin.module
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"needs the wheel of {module}")
    return SHORT[short]


@pytest.mark.parametrize(
    ("library", "message"),
    [
        ("missing.so", r"there is no file .*missing\.so"),
        ("text.so", r".*text\.so is no library for this machine"),
        ("nothing.so", r".*nothing\.so is a library, but no provider of onnxruntime"),
        ("no_factories.so", "it finds no device on this machine; run it where there is a device that it supports"),
        ("newer.so", r"it needs onnxruntime 1\.99 or later, not .*; upgrade onnxruntime"),
    ],
)
def test_a_library_that_does_not_serve_is_one_line(tiny, libraries, library, message, capfd):
    name = library.partition(".")[0]
    said = f"^the {name} provider cannot be used: {message}.*, or use the cpu provider$"
    with pytest.raises(ProviderError, match=said):
        open_session(tiny.bundle / "score.onnx", [f"{name}:{libraries / library}"])
    assert capfd.readouterr() == ("", "")


def test_a_library_whose_name_is_too_long_is_one_line():
    with pytest.raises(ProviderError, match=r"^the mine provider cannot be used: there is no file /a/a.*; give the"):
        plugin_devices(spec_of(f"mine:{'/a' * 5000}"), {})


def test_a_library_that_crashes_is_one_line_of_the_command(tiny, libraries, tmp_path, only_line):
    (tmp_path / "photo.png").touch()
    boom = f"boom:{libraries}/crash.so"
    arguments = [tiny.bundle, tmp_path / "photo.png", "-o", tmp_path / "out", "--providers", boom]
    command = [sys.executable, "-m", "fusioncam", "explain", *map(str, arguments)]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert only_line(ended.stderr).startswith("error: the boom provider crashed (SIGSEGV) with ")
    assert not (tmp_path / "out").exists()


def test_nothing_is_loaded_that_nobody_names(tiny):
    modules = [spec.plugin.module for spec in PROVIDERS if spec.plugin]
    code = f"""if True:
        import sys
        import onnxruntime
        from fusioncam import Explainer
        Explainer({str(tiny.bundle)!r}, chunk=8)
        print(sorted({{*{modules}}} & {{*sys.modules}}), [d.ep_name for d in onnxruntime.get_ep_devices()])
    """
    ended = subprocess.run([sys.executable, "-c", code], check=True, stdout=-1, text=True)
    assert ended.stdout == "[] ['CPUExecutionProvider']\n"


def test_two_libraries_of_one_name(libraries, monkeypatch):
    monkeypatch.setitem(plugins._LOADED, "mine", Path("/first.so"))
    with pytest.raises(UsageError, match=r"mine is already loaded from /first\.so; give .*nothing\.so another name"):
        plugin_devices(spec_of(f"mine:{libraries}/nothing.so"), {})


@pytest.mark.parametrize("given", ["qnn:", ":/library.so", "no such"])
def test_names_that_are_none(given):
    with pytest.raises(UsageError, match=f"no execution provider {given!r}; use cpu, .* or NAME:LIBRARY"):
        resolve([given])


def test_a_library_by_name_keeps_the_row_of_a_known_provider():
    (full,) = resolve(["qnn:/mine/libonnxruntime_providers_qnn.so"])
    spec = spec_of(full)
    assert (spec.name, spec.fixed, spec.chunk) == ("QNNExecutionProvider", True, SHORT["qnn"].chunk)
    assert spec.plugin.library == Path("/mine/libonnxruntime_providers_qnn.so")
    assert resolve([full]) == [full]


@pytest.mark.parametrize("spec", [s for s in PROVIDERS if s.plugin], ids=lambda spec: spec.short)
class TestEveryPlugin:
    def test_that_is_not_installed(self, spec, monkeypatch):
        monkeypatch.setattr(plugins, "find_spec", lambda name: None)
        monkeypatch.delitem(plugins._LOADED, spec.name, raising=False)
        with pytest.raises(ProviderError) as caught:
            plugin_devices(spec, {})
        why = f"its wheel ({spec.plugin.module}) is not installed; {spec.install}"
        assert str(caught.value) == f"the {spec.short} provider cannot be used: {why}, or use the cpu provider"

    def test_that_needs_a_later_onnxruntime(self, spec, monkeypatch):
        monkeypatch.setattr(onnxruntime, "__version__", "1.23.2")
        why = f"it needs onnxruntime {spec.plugin.least} or later, not 1.23.2; upgrade onnxruntime"
        with pytest.raises(ProviderError, match=why):
            plugin_devices(spec, {})

    def test_whose_wheel_cannot_be_imported(self, spec, monkeypatch):
        def broken(name):
            raise ImportError("half a wheel")

        monkeypatch.setattr(plugins, "find_spec", lambda name: True)
        monkeypatch.setattr(plugins, "import_module", broken)
        monkeypatch.delitem(plugins._LOADED, spec.name, raising=False)
        with pytest.raises(ProviderError, match=f"{spec.plugin.module} cannot be imported: half a wheel; pip install"):
            plugin_devices(spec, {})

    def test_on_this_machine(self, spec, tiny, capfd):
        """Either a session, or a line that says what the machine lacks."""
        installed(spec.short)
        lacks = r"(it finds no device on this machine; run|libcuda\.so\.1 \(NVIDIA's driver\) is missing)"
        try:
            session = open_session(tiny.bundle / "score.onnx", [spec.short], sizes={"N": 2})
        except ProviderError as error:
            said = str(error)
        else:
            said, lacks = session.get_providers()[0], spec.name
        assert re.match(f"(the {spec.short} provider cannot be used: )?{lacks}", said)
        assert "\n" not in said
        assert capfd.readouterr() == ("", "")


def device(kind, name="QNNExecutionProvider", library=""):
    about, kind = {"library_path": library}, SimpleNamespace(type=f"OrtHardwareDeviceType.{kind}")
    return SimpleNamespace(ep_name=name, ep_metadata=about, device=kind)


def test_a_library_that_has_a_name_of_its_own_for_its_provider(monkeypatch):
    monkeypatch.setitem(plugins._LOADED, "mine", Path("/its.so"))
    devices = [device("CPU", "CPUExecutionProvider"), device("NPU", "Its", "/its.so")]
    monkeypatch.setattr(onnxruntime, "get_ep_devices", lambda: devices)
    with pytest.raises(UsageError, match=r"/its\.so calls its provider Its; use Its:/its\.so"):
        plugin_devices(spec_of("mine:/its.so"), {})


def test_a_library_in_place_of_which_the_program_has_loaded_another(monkeypatch):
    monkeypatch.setitem(plugins._LOADED, "mine", Path("/its.so"))
    monkeypatch.setattr(onnxruntime, "get_ep_devices", lambda: [device("NPU", "mine", "/theirs.so")])
    with pytest.raises(UsageError, match=r"mine is already loaded from /theirs\.so; give /its\.so another name"):
        plugin_devices(spec_of("mine:/its.so"), {})


def test_a_forked_process_cannot_use_what_its_parent_has_loaded(monkeypatch):
    """It would wait for threads that it does not have."""
    monkeypatch.setitem(plugins._LOADED, "mine", Path("/its.so"))
    monkeypatch.setitem(plugins._PROCESS, "mine", os.getpid() + 1)
    with pytest.raises(UsageError, match=r"cannot be used in a process forked from one that has it; start .* spawn"):
        plugin_devices(spec_of("mine:/its.so"), {})


@pytest.fixture
def machine(monkeypatch):
    """A machine of a processor, on which QNN finds the devices of some kinds."""

    def make(*kinds, processor="ARM64"):
        library = Path("/wheel/libonnxruntime_providers_qnn.so")
        monkeypatch.setattr("platform.machine", lambda: processor)
        monkeypatch.setitem(plugins._LOADED, "QNNExecutionProvider", library)
        monkeypatch.setattr(plugins, "_of_wheel", lambda spec, plugin: library)
        devices = [device(kind) for kind in kinds]
        monkeypatch.setattr(onnxruntime, "get_ep_devices", lambda: [device("CPU", "CPUExecutionProvider"), *devices])
        return devices

    return make


HTP = {
    "backend_path": "/wheel/libQnnHtp.so",
    "enable_htp_fp16_precision": "1",
    "offload_graph_io_quantization": "0",
}


def test_a_real_npu_wins_and_says_itself_what_it_is(machine):
    *_, npu = machine("CPU", "GPU", "NPU")
    assert plugin_devices(SHORT["qnn"], {}) == ([npu], HTP)


@pytest.mark.parametrize("processor", ["x86_64", "AMD64"])
def test_without_an_npu_qualcomms_simulator_is_told_what_to_be(machine, processor):
    devices = machine("CPU", processor=processor)
    assert plugin_devices(SHORT["qnn"], {}) == (devices, {**HTP, "soc_model": "69", "htp_arch": "79"})


def test_options_of_the_user_win_and_choose_the_device(machine):
    cpu, _, second = machine("CPU", "NPU", "NPU")
    own = {"htp_performance_mode": "burst", "enable_htp_fp16_precision": 0}
    assert plugin_devices(SHORT["qnn"], {**own, "device_id": 1}) == (
        [second],
        {**HTP, "htp_performance_mode": "burst", "enable_htp_fp16_precision": "0"},
    )
    assert plugin_devices(SHORT["qnn"], {"device_type": "cpu"})[0] == [cpu]
    for wrong in ({"device_type": "GPU"}, {"device_id": 2}, {"device_id": "first"}):
        with pytest.raises(ProviderError, match=r"it has no device \w+ \w+, only CPU 0, NPU 0, NPU 1; correct"):
            plugin_devices(SHORT["qnn"], wrong)


@pytest.mark.parametrize(
    ("options", "remedy"),
    [
        ({"backend_type": "htp"}, "name the backend by backend_path, a library, or use"),
        ({"soc_model": "none"}, r"check its options, or pip install --no-deps onnxruntime-qnn"),
    ],
)
def test_wrong_options_of_qnn_are_not_said_to_be_a_lack_of_its_wheel(tiny, options, remedy):
    installed("qnn")
    with pytest.raises(ProviderError, match=f"^the qnn provider cannot be used: .*; {remedy}"):
        open_session(tiny.bundle / "score.onnx", [("qnn", options)], sizes={"N": 2})


def test_the_options_of_qnn_are_its_own():
    """The library takes options that it does not know without a word; all of ours stand in it."""
    library = Path(importlib.import_module(installed("qnn").plugin.module).get_library_path())
    content = library.read_bytes()
    for name in (*HTP, "soc_model", "htp_arch"):
        assert name.encode() + b"\0" in content
    assert library.with_name("libQnnHtp.so").is_file()
