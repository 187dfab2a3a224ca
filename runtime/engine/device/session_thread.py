"""The thread that runs an engine's sessions, whoever asks the engine for maps."""

import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, suppress

from fusioncam.errors import UsageError


class SessionThread:
    """One thread; callers wait for its work.

    onnxruntime keeps CUDA graphs, and a context of cuBLAS and of cuDNN, per thread and session: runs on a caller's own
    thread would capture anew, and leave a context behind. Only runs go to this thread. All else stays on the caller's,
    progress callbacks and Ctrl-C too.

    Args:
        enter: Makes the GPU's context current on the thread for a while.
    """

    def __init__(self, enter: Callable[[], AbstractContextManager[None]]) -> None:
        self._enter = enter
        self._pool = ThreadPoolExecutor(1, "fusioncam-gpu")  # whose thread ends with it, or with the program
        self._pool.submit(int).result()  # a start takes long enough to be interrupted, with the work half given away
        self._process = os.getpid()

    def run(self, work: Callable[[], None]) -> None:
        """Do some work and wait for it; raise its error. An interrupt of the caller is raised when the work is done.

        Raises:
            UsageError: The process was forked, or its program ends.
        """
        self.check_process()
        try:
            done = self._pool.submit(self._do, work)
        except RuntimeError as error:
            raise UsageError(
                "the program ends: a GPU explains nothing any more, call it before exit handlers"
            ) from error
        try:
            done.result()
        except BaseException:
            _finish(done)
            raise
        finally:
            del done  # or an error and its traceback keep each other alive, and with them the session

    def _do(self, work: Callable[[], None]) -> None:
        with self._enter():
            work()

    def check_process(self) -> None:
        """Make sure that this process has the thread.

        Raises:
            UsageError: The process was forked from the one that has it.
        """
        if os.getpid() != self._process:
            raise UsageError("a GPU cannot be shared with a forked process; make a new Explainer after the fork")


def _finish(done: "Future[None]") -> None:
    """Wait for work that uses what its caller is about to give up, however often the caller is interrupted."""
    while not done.done():
        with suppress(KeyboardInterrupt):
            wait([done])
