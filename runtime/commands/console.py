"""Output and exit status of the command line: results on standard output, everything else on standard error."""

import logging
import os
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple, NoReturn

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from fusioncam import supervisor
from fusioncam.errors import FusionCamError, out_of_memory, print_error_json
from fusioncam.libraries import describe_import_failure
from fusioncam.output import json_bytes

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)

DONE, FAILED = 0, 1
PATIENCE = 20  # seconds after which somebody without a progress bar wants to know how long it will take
INTERRUPTED = 130  # the parser's status where it caught Ctrl-C itself


def say(line: str) -> None:
    """Print one line of a result."""
    out.print(line, markup=False)


def say_json(result: object) -> None:
    """Print a result as plain JSON."""
    sys.stdout.write(json_bytes(result).decode() + "\n")


def say_json_line(result: object) -> None:
    """Print a result as one line of JSON, at once: whoever reads the stream gets whole lines."""
    sys.stdout.write(json_bytes(result, indent=None).decode())
    sys.stdout.flush()


def complain(line: str, kind: str = "error") -> None:
    """Print one line of complaint."""
    err.print(f"[bold red]{kind}:[/]" if kind == "error" else f"[yellow]{kind}:[/]", end=" ")
    err.print(" ".join(line.split()), markup=False)


def show_warning(message: Warning | str, *_: object, **__: object) -> None:
    """Print one of Python's warnings in one line."""
    complain(str(message), "warning")


@contextmanager
def progress_bar(title: str, quiet: bool) -> Iterator[Callable[[int, int | None], None]]:
    """Show a bar with the time left, none where `quiet`; yields a function to call with (done, all).

    Where there is no terminal for a bar, a note says once how long a long run will take.
    """
    if quiet or not err.is_terminal:  # before rich 14.3 a bar that is disabled writes a line all the same
        yield (lambda done, every: None) if quiet else _note_of_length(title)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    # Redirected, what is printed meanwhile would go to standard error, too.
    with Progress(*columns, console=err, transient=True, redirect_stdout=False) as bar:
        task = bar.add_task(title, total=None)
        yield lambda done, every: bar.update(task, completed=done, total=every)


def _note_of_length(title: str) -> Callable[[int, int | None], None]:
    """Return a function to call with (done, all), which prints a note once where the rest takes long, too."""
    begun, noted = time.monotonic(), False

    def step(done: int, every: int | None) -> None:
        nonlocal noted
        seconds = time.monotonic() - begun
        if noted or not (done and every) or seconds < PATIENCE:
            return
        noted = True
        left = seconds * (every - done) / done
        if left >= PATIENCE:
            line = f"{title}: {done:,} of at most {every:,} done after {seconds:.0f} s, about {left:.0f} s more"
            complain(line, "note")

    return step


def run_command(command: Callable[[list[str]], object], arguments: list[str]) -> NoReturn:
    """Run the command line and exit: 0 done, 1 failed, 2 bad usage; one line per error.

    `--debug`, anywhere, shows the traceback as well, and `--json` prints the error to standard output, too.
    """
    warnings.showwarning = show_warning
    logging.lastResort = logging.NullHandler()  # libraries log about files that an error of one line names anyway
    status = DONE
    _prepare_streams()
    try:
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # cleans up as Ctrl-C does
        result = command(arguments)
        sys.stdout.flush()
        status = result if isinstance(result, int) else DONE
    except KeyboardInterrupt:
        status = INTERRUPTED
    except BrokenPipeError:
        status = FAILED
    except Exception as error:
        status = _report(failure_of(error), arguments)
        if "--debug" in arguments:
            traceback.print_exc()
    if status == INTERRUPTED:
        status = _report(Failure(FAILED, "interrupted", supervisor.INTERRUPTED), arguments)
    try:
        sys.stdout.flush()
    except OSError:  # nobody reads the stream any more; Python would complain about that at exit
        sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115
    sys.exit(status)


def _prepare_streams() -> None:
    """Replace closed streams, and make all streams take every character."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by the calling process
            setattr(sys, name, open(os.devnull, "w"))  # noqa: PTH123, SIM115  (until the process ends)
        stream = getattr(sys, name)
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


class Failure(NamedTuple):
    """The end of a command that failed.

    Attributes:
        status: Exit status.
        kind: See `error_json`.
        message: One line for the user: what is wrong, what to do.
    """

    status: int
    kind: str
    message: str


def failure_of(error: Exception) -> Failure:
    """Return what to say of an error, whoever raised it, and the exit status."""
    if isinstance(error, FusionCamError):
        return Failure(error.exit_status, error.kind_name(), str(error))
    if (failure := describe_import_failure(error)) is not None:
        return Failure(FAILED, "package", failure)
    if isinstance(error, OSError):
        advice = "free some space, or check the folder of the output"
        return Failure(FAILED, "system", f"{error.strerror or error}; {advice}")
    if (shortage := out_of_memory(error)) is not None:
        return Failure(FAILED, shortage.kind_name(), str(shortage))
    # The parser's errors, whose classes have moved between releases, are known by these two attributes.
    if hasattr(error, "format_message") and hasattr(error, "exit_code"):
        return Failure(int(error.exit_code), "usage", f"{error.format_message()} (--help shows the usage)")
    if type(error).__name__ == "Abort":
        return Failure(INTERRUPTED, "interrupted", supervisor.INTERRUPTED)
    bug = f"unexpected {type(error).__name__}: {error}; this is a bug, please report it with --debug's output"
    return Failure(FAILED, "unexpected", bug)


def _report(failure: Failure, arguments: list[str]) -> int:
    """Print a failure for people, for programs too where they asked for JSON, and return the exit status."""
    if failure.status != INTERRUPTED:
        message = " ".join(failure.message.split())
        complain(message)
        with suppress(OSError):  # nobody reads standard output any more
            print_error_json(arguments, failure.kind, message)
    return failure.status
