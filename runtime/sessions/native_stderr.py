"""Text that native libraries write to the standard error, or output, of the process."""

import ctypes
import os
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

_STDERR = threading.Lock()  # there is one for the whole process


@contextmanager
def native_stderr(and_stdout: bool = False) -> Iterator[list[str]]:
    """Catch the text that native libraries write to file descriptor 2, past `sys.stderr`, in the whole process.

    onnxruntime writes only there why a provider is unavailable. Without a temporary file to keep the text in, nothing
    is caught.

    Args:
        and_stdout: Whether text for file descriptor 1 is dropped: a plugin's chatter must not get into our output.

    Yields:
        A list of one string: empty at first, the caught text after the context ends.
    """
    caught = [""]
    with _STDERR, ExitStack() as stack:
        try:
            file = stack.enter_context(tempfile.TemporaryFile())
            real = os.dup(2)
        except OSError:  # a process without stderr, a machine without a folder for such files
            yield caught
            return
        stack.enter_context(_without_stdout() if and_stdout else ExitStack())
        os.dup2(file.fileno(), 2)
        try:
            yield caught
        finally:
            os.dup2(real, 2)
            os.close(real)
            file.seek(0)
            caught[0] = file.read().decode(errors="replace")


@contextmanager
def _without_stdout() -> Iterator[None]:
    """Drop text for file descriptor 1, also such as waits in the buffer of the C library."""
    try:
        real = os.dup(1)
    except OSError:  # a process without stdout
        yield
        return
    with suppress(OSError, ValueError, AttributeError):  # closed, or none at all
        sys.stdout.flush()
    _flush_c()
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)
    try:
        yield
    finally:
        _flush_c()
        os.dup2(real, 1)
        os.close(real)


def _flush_c() -> None:
    """Write out what the C library has buffered of its standard streams."""
    with suppress(OSError, AttributeError, TypeError):  # TypeError: Windows, whose C library is none of the process
        ctypes.CDLL(None).fflush(None)
