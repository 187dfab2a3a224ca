"""Findings of a stage, and the file that keeps them."""

import json
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from fusioncam.errors import first_line
from fusioncam.runtime.bench import turns

Figures = dict[str, Any]
NO_MEMORY = ("out of memory", "out_of_memory", "allocate")


@dataclass
class Record:
    """Findings of one stage.

    Attributes:
        checks: Correctness: each with what was found, its limit, and whether it passed.
        targets: Speed that was hoped for: each met or not, which fails nothing.
        figures: Everything measured.
        left_out: What could not be run, and why.
        keep: Called by `save` with all of this.
    """

    keep: Callable[[Figures], None] = lambda found: None
    checks: list[Figures] = field(default_factory=list)
    targets: list[Figures] = field(default_factory=list)
    figures: list[Figures] = field(default_factory=list)
    left_out: list[Figures] = field(default_factory=list)

    def check(self, what: str, found: float, limit: float, at_least: bool = False, **more: Any) -> bool:
        """Hold a value against a limit that it must not pass; NaN never passes."""
        ok = found >= limit if at_least else found <= limit
        self.checks.append({"what": what, "found": float(found), "limit": limit, "ok": bool(ok), **more})
        return bool(ok)

    def target(self, what: str, found: float, limit: float, at_least: bool = False) -> None:
        """Hold a speed against what was hoped for."""
        met = found >= limit if at_least else found <= limit
        self.targets.append({"what": what, "found": float(found), "limit": limit, "met": bool(met)})

    def leave_out(self, what: str, why: str | BaseException) -> None:
        """Say that something could not be run."""
        entry = {"what": what, "why": why if isinstance(why, str) else f"{type(why).__name__}: {first_line(why)}"}
        if entry not in self.left_out:
            self.left_out.append(entry)

    def failed(self, what: str, error: BaseException) -> None:
        """Say that something did not run: for lack of memory it may, for any other reason it must not."""
        if any(words in str(error).lower() for words in NO_MEMORY):
            self.leave_out(what, error)
        else:
            self.check(f"{what}: it runs", float("nan"), 0, reason=f"{type(error).__name__}: {first_line(error)}")

    def save(self) -> None:
        """Keep what was found so far: a long stage may be stopped from outside."""
        self.keep({"status": "stopped", **self.found})

    @property
    def found(self) -> Figures:
        """All of it, by kind."""
        return {name: list(getattr(self, name)) for name in ("checks", "targets", "figures", "left_out")}


def guarded(work: Callable[[Record], None], keep: Callable[[Figures], None] = lambda found: None) -> Figures:
    """Run a stage; whatever happens to it, what it found so far is kept.

    Args:
        work: The stage.
        keep: Called with what it found so far, whenever it says so.
    """
    record, start = Record(keep), time.perf_counter()
    outcome: Figures = {"status": "done"}
    try:
        work(record)
    except ImportError as error:
        outcome = {"status": "not run", "reason": f"{type(error).__name__}: {first_line(error)}"}
    except Exception as error:  # the next stages shall run all the same
        outcome = {"status": "crashed", "reason": f"{type(error).__name__}: {first_line(error)}"}
        outcome["traceback"] = traceback.format_exc().splitlines()
    return {**outcome, "seconds": round(time.perf_counter() - start, 1), **record.found}


def passed(stages: dict[str, Figures]) -> bool:
    """Return whether no check failed, and no stage crashed or was stopped."""
    return all(s["status"] in ("done", "not run") and all(c["ok"] for c in s["checks"]) for s in stages.values())


def write(report: Figures, path: Path) -> None:
    """Write the report whole, or leave what is there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".part")
    temporary.write_text(json.dumps(_plain(report), indent=1, allow_nan=False) + "\n")
    temporary.replace(path)


def _plain(value: Any) -> Any:
    """The value for JSON, which knows no NaN and no infinity: they become text."""
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, float) and not abs(value) < float("inf"):
        return str(value)
    return value


def spread(values: Sequence[float]) -> Figures:
    """Median, 95th percentile (linear between neighbours), extremes, and how many."""
    return asdict(turns.spread(values))
