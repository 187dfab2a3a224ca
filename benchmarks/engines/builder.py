"""Builds engines in a process of its own: a graph may end that process, which then is an answer like any other."""

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from fusioncam.errors import FusionCamError

PACKAGE = "onnxruntime_ep_nv_tensorrt_rtx"
WHEEL = "onnxruntime-ep-nv-tensorrt-rtx-cu13"
INSTALL = f'pip install --no-deps "{WHEEL}==0.5.0"'
BATCH = (1, 8, 64)  # least, best and most pictures, where a graph leaves that open
SECONDS = 600.0  # for one graph
SCRIPT = Path(__file__).with_name("rtx.py")


class MissingBuilderError(FusionCamError):
    """TensorRT-RTX is not installed, or not the version that is called."""


@dataclass(frozen=True)
class Engine:
    """Outcome of one graph.

    Attributes:
        refusal: Why there is no engine, in the words of the parser or the builder; None if there is one.
        layers: Number of layers of the network that the parser made.
        bytes: Size of the engine; None if it was not built.
        seconds: What building took, without parsing; likewise.
        processor_seconds: Of these, what a processor worked for it: on a busy machine the rest is waiting.
    """

    refusal: str | None
    layers: int | None = None
    bytes: int | None = None
    seconds: float | None = None
    processor_seconds: float | None = None


class Builder:
    """TensorRT-RTX's parser and builder; use it in a `with` block.

    Args:
        folder: That holds the libraries; by default that of the installed wheel.
        seconds: For one graph; then its process is ended.

    Raises:
        MissingBuilderError: There is no such wheel, or its version is another.
    """

    def __init__(self, folder: Path | None = None, seconds: float = SECONDS) -> None:
        self._folder, self._seconds = folder or _installed(), seconds
        self._process = self._started()

    def __enter__(self) -> "Builder":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def build(self, path: Path, batch: Sequence[int] = BATCH, parse_only: bool = False) -> Engine:
        """Return what becomes of an ONNX file.

        Args:
            path: The file; its weights may lie beside it.
            batch: Least, best and most pictures, where the first axis is free.
            parse_only: Whether only to parse, which takes hundredths of a second but proves less.
        """
        found = self._ask({"path": str(path), "batch": list(batch), "parse_only": parse_only})
        return Engine(**found)

    def knows(self, operators: Sequence[str]) -> list[str]:
        """Return those of ONNX's operators that the parser has an importer for, whatever that asks of a node."""
        found: list[str] = self._ask({"operators": list(operators)})["knows"]
        return found

    def _started(self) -> "subprocess.Popen[str]":
        command = [sys.executable, "-I", str(SCRIPT), str(self._folder)]
        process = subprocess.Popen(
            command, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        assert process.stdout is not None
        missing = json.loads(process.stdout.readline() or '{"missing": "its process ended"}')["missing"]
        if missing is not None:
            process.communicate()
            raise MissingBuilderError(f"TensorRT-RTX cannot be loaded: {missing}; {INSTALL}")
        return process

    def _ask(self, question: dict[str, Any]) -> dict[str, Any]:
        """Return the answer of the process; where it ends instead, how, and start another."""
        process, late = self._process, threading.Event()

        def end() -> None:
            late.set()
            process.kill()

        timer = threading.Timer(self._seconds, end)
        timer.start()
        try:
            line = _exchange(process, json.dumps(question))
        finally:
            timer.cancel()
        if line:
            found: dict[str, Any] = json.loads(line)
            return found
        process.communicate()
        self._process = self._started()
        why = f"took more than {self._seconds:g} s" if late.is_set() else _ended(process.returncode)
        return {"refusal": f"TensorRT-RTX {why}"}


def _exchange(process: "subprocess.Popen[str]", line: str) -> str:
    """Return the line that answers one, or nothing if the process has ended."""
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        print(line, file=process.stdin, flush=True)
    except BrokenPipeError:
        return ""
    return process.stdout.readline()


def _ended(status: int) -> str:
    return f"died of {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"


def _installed() -> Path:
    """Return the folder of the installed wheel."""
    spec = find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise MissingBuilderError(f"{WHEEL} is not installed; {INSTALL}")
    return Path(spec.submodule_search_locations[0])
