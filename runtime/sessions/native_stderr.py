"""Text that native libraries write to the standard error of the process."""

import os
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

_STDERR = threading.Lock()  # there is one for the whole process


@contextmanager
def native_stderr() -> Iterator[list[str]]:
    """Catch the text that native libraries write to file descriptor 2, past `sys.stderr`, in the whole process.

    onnxruntime writes only there why a provider is unavailable. Without a temporary file to keep the text in, nothing
    is caught.

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
        os.dup2(file.fileno(), 2)
        try:
            yield caught
        finally:
            os.dup2(real, 2)
            os.close(real)
            file.seek(0)
            caught[0] = file.read().decode(errors="replace")
