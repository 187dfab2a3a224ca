"""Runs of a session whose inputs and outputs are device memory, bound by pointer."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import onnxruntime

from fusioncam.errors import BundleError, FusionCamError, first_line, out_of_memory
from fusioncam.kernels.captures import CAPTURES
from fusioncam.kernels.device import Device, DeviceArray
from fusioncam.runtime.engine.device.session_thread import SessionThread
from fusioncam.runtime.sessions.failures import run_failure

NO_GRAPH = -1  # onnxruntime's number for a run that is not captured
WARM_UP = 3  # runs until onnxruntime has captured a CUDA graph
# CUDA's errors of a capture that another call has spoiled.
SPOILED = re.compile(r"CUDA failure 90\d|stream is captur|stream captur", re.IGNORECASE)


@dataclass(frozen=True)
class Run:
    """A session with its inputs and outputs bound to device memory.

    Attributes:
        session: The session.
        binding: The bound memory.
        thread: The thread that it runs on.
        graph: Number of the CUDA graph that these addresses are captured as, or `NO_GRAPH`.
    """

    session: onnxruntime.InferenceSession
    binding: Any
    thread: SessionThread
    graph: int = NO_GRAPH

    def __call__(self) -> None:
        """Give the work to the session's stream, without waiting for it.

        Raises:
            FusionCamError: onnxruntime fails.
        """
        self.thread.run(self._run)

    def warm_up(self) -> None:
        """Run once, or until the CUDA graph is captured: alone, as a capture must be, see `kernels/captures.py`.

        Raises:
            FusionCamError: onnxruntime fails.
        """
        self.thread.run(self._alone)

    def _alone(self) -> None:
        with CAPTURES.alone():
            for _ in range(1 if self.graph == NO_GRAPH else WARM_UP):
                try:
                    self._run()
                except FusionCamError as error:
                    if not SPOILED.search(str(error)):
                        raise
                    self._run()  # by another library, which does not wait; once is chance

    def _run(self) -> None:
        try:
            self.session.run_with_iobinding(self.binding, run_options(self.graph))
        except Exception as error:  # onnxruntime's exceptions share no base class
            raise run_failure(error) from error


@cache
def run_options(graph: int) -> onnxruntime.RunOptions:
    """Options of a run that nobody waits for, as a CUDA graph of that number."""
    options = onnxruntime.RunOptions()
    options.add_run_config_entry("disable_synchronize_execution_providers", "1")
    options.add_run_config_entry("gpu_graph_id", str(graph))
    return options


def bound(
    device: Device,
    thread: SessionThread,
    session: onnxruntime.InferenceSession,
    inputs: Mapping[str, DeviceArray],
    outputs: Mapping[str, DeviceArray],
    graph: int = NO_GRAPH,
) -> Run:
    """Bind a session to device arrays.

    Args:
        device: Where the arrays are.
        thread: The thread for its runs.
        session: The session.
        inputs: By name.
        outputs: By name.
        graph: See `Run`.

    Raises:
        BundleError: The graph has other inputs or outputs.
    """
    try:
        binding = session.io_binding()
        for bind, arrays in ((binding.bind_input, inputs), (binding.bind_output, outputs)):
            for name, array in arrays.items():
                bind(name, device.memory, device.index, array.dtype.type, list(array.shape), array.pointer)
    except Exception as error:  # as above
        what = f"a graph is not what a bundle holds: {first_line(error)}; export the model again"
        raise out_of_memory(error) or BundleError(what) from error
    return Run(session, binding, thread, graph)
