"""A case in a process of its own, with limits of time and memory, and what is wrong with how it ended."""

import faulthandler
import os
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

SECONDS, MEGABYTES = 60.0, 3000.0
_PAGE = os.sysconf("SC_PAGE_SIZE")
# What the command line may print beside the one line of an error.
_REMARKS = ("note: ", "warning: ")


@dataclass(frozen=True)
class Outcome:
    """The end of a case.

    Attributes:
        status: Exit status; the negative number of the signal that ended it.
        seconds: How long it took.
        megabytes: Peak resident memory of its largest process.
        out: Its standard output.
        err: Its standard error.
        over: The limit it was ended for, empty if none.
    """

    status: int
    seconds: float
    megabytes: float
    out: str
    err: str
    over: str = ""


def run_forked(work: Callable[[], object], folder: Path) -> Outcome:
    """Run `work` in a fork of this process, in `folder`; ends it, and what it started, at a limit.

    Nothing is imported anew, so a case costs little more than its own work. Modules must not have started threads.
    """
    files = folder / "stdout", folder / "stderr"
    start, over = time.monotonic(), ""
    sys.stdout.flush()
    sys.stderr.flush()
    process = os.fork()
    if process == 0:
        _be_the_case(work, folder, *files)
    waiter = os.pidfd_open(process)
    try:
        while not select.select([waiter], [], [], 0.1)[0]:
            if time.monotonic() - start > SECONDS:
                over = f"over {SECONDS:.0f} s"
            elif sum(_resident(p) for p in _tree(process)) > MEGABYTES:
                over = f"over {MEGABYTES:.0f} MB"
            if over:
                _kill(process)
                break
    finally:
        os.close(waiter)
    _, status, usage = os.wait4(process, 0)
    out, err = (file.read_text(errors="replace") if file.exists() else "" for file in files)
    seconds = time.monotonic() - start
    return Outcome(os.waitstatus_to_exitcode(status), seconds, usage.ru_maxrss / 1024, out, err, over)


def _be_the_case(work: Callable[[], object], folder: Path, out: Path, err: Path) -> None:
    """Run the case in this process, and never return."""
    status = 3
    try:
        os.setsid()
        os.chdir(folder)
        for number, file in ((1, out), (2, err)):
            os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
        faulthandler.enable()
        work()
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        with suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


def over_limit(outcome: Outcome) -> str:
    """The limit of time or memory that was passed; empty if none."""
    return outcome.over or (f"over {MEGABYTES:.0f} MB" if outcome.megabytes > MEGABYTES else "")


def complaint(outcome: Outcome) -> str:
    """Return what is wrong with the way a command ended; empty if nothing is."""
    if over_limit(outcome):
        return over_limit(outcome)
    if outcome.status < 0:
        return f"ended by {signal.Signals(-outcome.status).name}: {_last(outcome.err)}"
    if outcome.status not in (0, 1, 2):
        return f"exit status {outcome.status}: {_last(outcome.err)}"
    if "Traceback" in outcome.err or "this is a bug" in outcome.err:
        return f"unforeseen: {_last(outcome.err)}"
    lines = [line for line in outcome.err.splitlines() if line.strip() and not line.startswith(_REMARKS)]
    if outcome.status == 0:
        return f"done, but says {_last(outcome.err)}" if lines else ""
    if outcome.status == 1 and not lines and "FAIL" in outcome.out:
        return ""  # of `check`, whose findings are its result
    if len(lines) != 1 or not lines[0].startswith("error: "):
        return f"{len(lines)} lines in place of one error: {_last(outcome.err)}"
    return ""


def _last(text: str) -> str:
    return " | ".join(text.strip().splitlines()[-3:])[-600:]


def _tree(process: int) -> Iterator[int]:
    """A process and all it has started."""
    yield process
    with suppress(OSError):
        for child in Path(f"/proc/{process}/task/{process}/children").read_text().split():
            yield from _tree(int(child))


def _resident(process: int) -> float:
    """Megabytes; none of a process that has gone."""
    with suppress(OSError, IndexError):
        return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * _PAGE / 1e6
    return 0.0


def _kill(process: int) -> None:
    for each in reversed(list(_tree(process))):
        with suppress(ProcessLookupError):
            os.kill(each, signal.SIGKILL)
