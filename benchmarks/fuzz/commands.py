"""The command line, loaded before the first fork, so that a case need not import anything."""

import os
import sys
from collections.abc import Callable

import fusioncam.export
import fusioncam.export.triton
import fusioncam.runtime.commands.explaining
import fusioncam.runtime.commands.inspection
import fusioncam.runtime.explainer
from fusioncam.__main__ import main
from fusioncam.runtime.commands import app as cli

__all__ = ["LOADED", "command"]

# Less than the sandbox allows: it is the command itself that has to end a case, in one line.
LIMITS = {"FUSIONCAM_TIME_LIMIT": "30", "FUSIONCAM_MEMORY_LIMIT": "2"}
LOADED = (
    cli,
    fusioncam.export,
    fusioncam.export.triton,
    fusioncam.runtime.explainer,
    fusioncam.runtime.commands.explaining,
)


def command(*arguments: object) -> Callable[[], None]:
    """Return a function that runs a command line in this process, with limits."""

    def run() -> None:
        os.environ |= LIMITS
        sys.argv = ["fusioncam", *map(str, arguments)]
        main()

    return run
