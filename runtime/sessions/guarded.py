"""Sessions of hardware that may be a GPU, which keep clear of captures of CUDA graphs."""

import os
from typing import Any

import onnxruntime

from fusioncam.errors import UsageError
from fusioncam.kernels.captures import CAPTURES


class GuardedSession(onnxruntime.InferenceSession):  # type: ignore[misc]
    """A session that opens, runs and ends while no CUDA graph is captured, and in one process only."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self._process = os.getpid()
        with CAPTURES.shared(long=True):  # TensorRT builds its engines meanwhile
            super().__init__(*arguments, **options)

    def run(self, *arguments: Any, **options: Any) -> Any:
        """Run the session, as `InferenceSession.run` does; raises UsageError in a forked process, see `refuse_fork`."""
        refuse_fork(self._process)
        with CAPTURES.shared():
            return super().run(*arguments, **options)

    def run_with_iobinding(self, *arguments: Any, **options: Any) -> None:
        """Run the session on bound memory, as `InferenceSession.run_with_iobinding` does; see `run`."""
        refuse_fork(self._process)
        with CAPTURES.shared():
            super().run_with_iobinding(*arguments, **options)

    def __del__(self) -> None:
        held = [self.__dict__.pop("_sess", None)]  # onnxruntime's own object
        CAPTURES.free(held.clear)


def refuse_fork(process: int) -> None:
    """Raise UsageError in a process forked from one whose provider it would use: without its threads, it would wait.

    Args:
        process: The number of the process that opened the session or loaded the library.
    """
    if os.getpid() != process:
        raise UsageError(
            "a provider other than cpu cannot be used in a process forked from one that has it; "
            "start processes with spawn, or fork before the first Explainer is made"
        )
