"""What a child process does in native code ends in one line of its parent."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import onnx
import psutil
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="processes cannot be forked here")

START = "import os, signal, sys, time\nfrom pathlib import Path\nfrom fusioncam import supervisor\n"


def start(body, *, command="inspect", arguments=(), **options):
    """A process that runs `body` as the command of that name would be run."""
    script = f"{START}supervisor.supervise({[command, *arguments]!r})\n{body}"
    return subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )


def end_of(body, **options):
    """(exit status, standard output, standard error) of that process."""
    process = start(body, **options)
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


@pytest.mark.parametrize("status", [0, 1, 2, 77])
def test_the_parent_exits_as_its_child(status):
    assert end_of(f"print('done'); sys.exit({status})") == (status, "done\n", "")


def test_other_commands_are_not_watched():
    assert end_of("print(supervisor._to_parent)", command="serve") == (0, "None\n", "")


@pytest.mark.parametrize("name", ["SIGSEGV", "SIGABRT", "SIGBUS", "SIGFPE"])
def test_a_crash_is_one_line(name):
    status, _, err = end_of(f"supervisor.limit('m.onnx', 60); os.kill(os.getpid(), signal.{name})")
    assert status == 1
    assert err == f"error: m.onnx makes a native library crash ({name}); it is damaged: export it again\n"


def test_with_json_a_crash_is_json_too():
    body = "supervisor.limit('m.onnx', 60); os.kill(os.getpid(), signal.SIGSEGV)"
    status, out, err = end_of(body, arguments=["--json"])
    error = json.loads(out)["error"]
    assert (status, error["kind"], f"error: {error['message']}\n") == (1, "crash", err)


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGINT"])
def test_an_interrupt_that_nothing_handles_is_no_crash(name):
    body = f"signal.signal(signal.{name}, signal.SIG_DFL); supervisor.limit('m.onnx', 60); print('ready', flush=True)"
    process = start(f"{body}\ntime.sleep(60)")
    assert process.stdout.readline() == "ready\n"
    process.send_signal(getattr(signal, name))
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (1, "error: interrupted; no incomplete file is left behind\n")


def test_killed_by_another():
    status, _, err = end_of("supervisor.limit('m.onnx', 60); os.kill(os.getpid(), signal.SIGKILL)")
    assert (status, len(err.splitlines())) == (1, 1)
    assert "was killed (SIGKILL), most likely for lack of memory" in err


DEAF = "signal.signal(signal.SIGINT, signal.SIG_IGN); signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"


def test_what_does_not_end_is_ended():
    begun = time.monotonic()
    status, _, err = end_of(DEAF + "supervisor.limit('m.onnx', 0.5)\nwhile True: pass")
    assert time.monotonic() - begun < 30
    assert (status, len(err.splitlines())) == (1, 1)
    assert err.startswith("error: m.onnx takes more than 0.5 s: a loop in it may be endless")


def test_what_takes_too_much_memory_is_ended():
    body = """
supervisor.limit('m.onnx', 60, 0.2)
kept = bytearray(400_000_000)
for i in range(0, len(kept), 4096):
    kept[i] = 1
time.sleep(60)
"""
    status, _, err = end_of(body)
    assert (status, len(err.splitlines())) == (1, 1)
    assert err.startswith("error: m.onnx takes more than 0.2 GB of memory")


def test_the_usual_limit_is_most_of_the_memory():
    assert end_of("supervisor.limit('m.onnx'); time.sleep(0.3); print('done')") == (0, "done\n", "")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_deaf_child_is_ended_with_its_parent(number, tmp_path):
    """What it was writing is removed, a file as well as a folder."""
    body = f"""
folder, file = Path({str(tmp_path / "folder")!r}), Path({str(tmp_path / "file")!r})
supervisor.remember(folder); supervisor.remember(file)
folder.mkdir(); (folder / "part").touch(); file.touch()
print(os.getpid(), flush=True)
while True: pass
"""
    process = start(DEAF + body)
    child = int(process.stdout.readline())
    process.send_signal(number)
    _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (1, "error: interrupted; no incomplete file is left behind\n")
    assert not psutil.pid_exists(child)
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_of_a_terminal_interrupts_once():
    """The terminal sends it to both processes, and the parent passes its own on."""
    body = """
try:
    print('ready', flush=True)
    time.sleep(60)
except KeyboardInterrupt:
    time.sleep(0.3)
    print('tidied')
    sys.exit(1)
"""
    process = start(body, start_new_session=True)
    assert process.stdout.readline() == "ready\n"
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (1, "tidied\n", "")


def test_closed_streams_change_nothing():
    """The pipe to the parent has their numbers then, and what native code writes to them is no message."""
    script = f"{START}supervisor.supervise(['inspect']); os.write(1, b'text\\n'); sys.exit(77)"
    command = ["sh", "-c", '"$0" -c "$1" <&- >&- 2>&-', sys.executable, script]
    assert subprocess.run(command, timeout=60, check=False).returncode == 77


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of its parent's death")
def test_the_child_dies_with_its_parent():
    process = start(DEAF + "print(os.getpid(), flush=True)\nwhile True: pass")
    child = psutil.Process(int(process.stdout.readline()))
    process.kill()
    process.communicate(timeout=30)
    child.wait(timeout=10)


def test_the_parent_loads_nothing_large():
    """It waits beside a child that needs the memory."""
    body = "print({'numpy', 'onnx', 'pydantic', 'rich', 'typer'} & sys.modules.keys())"
    assert subprocess.check_output([sys.executable, "-c", f"{START}{body}"], text=True) == "set()\n"


@pytest.fixture(scope="module")
def endless(tmp_path_factory):
    """A model with a Loop that never ends."""
    values = [
        helper.make_tensor_value_info(n, t, s)
        for n, t, s in (("i", TensorProto.INT64, []), ("go", TensorProto.BOOL, []), ("v", TensorProto.FLOAT, None))
    ]
    nodes = [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Identity", ["v"], ["w"])]
    results = [
        helper.make_tensor_value_info(n, t, None) for n, t in (("on", TensorProto.BOOL), ("w", TensorProto.FLOAT))
    ]
    body = helper.make_graph(nodes, "body", values, results)
    rng = np.random.default_rng(0)
    constants = {"yes": np.asarray(True), "w1": rng.normal(size=(4, 3, 3, 3)).astype(np.float32)}
    nodes = [
        helper.make_node("Loop", ["", "yes", "x"], ["again"], body=body),
        helper.make_node("Conv", ["again", "w1"], ["c"]),
        helper.make_node("ReduceMean", ["c", "axes"], ["y"], keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "endless",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 4])],
        [numpy_helper.from_array(v, k) for k, v in {**constants, "axes": np.asarray([2, 3])}.items()],
    )
    path = tmp_path_factory.mktemp("endless") / "endless.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), path)
    return path


@pytest.mark.parametrize(("options", "environment"), [(["--time-limit", "3"], {}), ([], {"FUSIONCAM_TIME_LIMIT": "3"})])
def test_an_endless_model_ends_at_its_time_limit(options, environment, endless, tmp_path):
    command = [sys.executable, "-m", "fusioncam", "export", str(endless), "-o", "m.fcam", *options]
    done = subprocess.run(
        command, cwd=tmp_path, env=os.environ | environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (1, "", 1)
    assert "endless.onnx takes more than 3 s" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "environment"), [(["--memory-limit", "0.1"], {}), ([], {"FUSIONCAM_MEMORY_LIMIT": "0.1"})]
)
@pytest.mark.parametrize("command", ["inspect", "explain"])
def test_a_command_ends_at_its_memory_limit(command, options, environment, tiny, tmp_path, tmp_path_factory):
    """The photo alone takes more, so the command cannot end before its parent has looked."""
    model, photo = tiny.bundle.with_suffix(".onnx"), tmp_path_factory.mktemp("large") / "photo.png"
    Image.new("RGB", (7000, 5000), "teal").save(photo)
    given = {"inspect": [model], "explain": [tiny.bundle, photo, "-o", tmp_path / "out"]}[command]
    done = subprocess.run(
        [sys.executable, "-m", "fusioncam", command, *map(str, given), *options],
        cwd=tmp_path, env=os.environ | environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (1, "", 1)
    assert "takes more than 0.1 GB of memory" in done.stderr
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []


def test_an_endless_model_ends_for_python(endless, monkeypatch):
    """No process is started for it: onnxruntime is told to stop."""
    from fusioncam.errors import ModelError
    from fusioncam.export import inspect_model

    monkeypatch.setattr("fusioncam.export.sessions.RUN_SECONDS", 0.5)
    with pytest.raises(ModelError, match=r"does not end within 0\.5 s on a few pictures: a loop in it is endless"):
        inspect_model(endless)
