"""A stage's findings in a few lines for the terminal."""

from collections.abc import Iterator
from typing import Any

SHOWN = 8  # of what was left out


def lines(name: str, stage: dict[str, Any]) -> list[str]:
    """Return the lines to print of a stage."""
    reason = f": {stage['reason']}" if "reason" in stage else ""
    checks, wrong = stage["checks"], [c for c in stage["checks"] if not c["ok"]]
    counted = f"{len(checks) - len(wrong)} of {len(checks)} checks passed"
    head = f"== {name}: {stage['status']}{reason} ({stage['seconds']} s); {counted}"
    failed = [f"  FAILED {c['what']}: {c.get('reason') or how_far(c)}" for c in wrong]
    missed = [t for t in stage["targets"] if not t["met"]]
    targets = [f"  not met: {t['what']}: {float(t['found']):.3f}, hoped for {t['limit']:g}" for t in missed]
    if stage["targets"]:
        targets.append(f"  met: {len(stage['targets']) - len(missed)} of {len(stage['targets'])} targets")
    log = [f"  > {line[:160]}" for line in stage.get("log", ())]
    left = [f"  left out {o['what']}: {o['why']}" for o in stage["left_out"][:SHOWN]]
    more = len(stage["left_out"]) - SHOWN
    left += [f"  left out {more} more, see the result"] if more > 0 else []
    return [head, *log, *failed, *worst(checks), *maps(checks), *figures(stage["figures"]), *targets, *left]


def how_far(check: dict[str, Any]) -> str:
    """Return the value that was found, and its limit; NaN comes as text from a step's process, whose report is JSON."""
    return f"{float(check['found']):.3g}, limit {check['limit']:g}"


def worst(checks: list[dict[str, Any]]) -> Iterator[str]:
    """Per kernel, the worst error by any launcher."""
    found: dict[str, dict[str, Any]] = {}
    for c in checks:
        if "kernel" in c and not c["what"].endswith("differ"):
            known = found.setdefault(c["kernel"], c)
            found[c["kernel"]] = max(known, c, key=lambda d: float(d["found"]))
    for name, c in found.items():
        yield f"  {name:22} worst error {float(c['found']):.2g} of {c['limit']:g}"


def maps(checks: list[dict[str, Any]]) -> Iterator[str]:
    """Per backend, how far its maps are from the CPU's."""
    told: dict[str, list[str]] = {}
    for c in checks:
        label, _, rest = c["what"].partition(": ")
        if "pixels" in c:
            method, _, measure = rest.partition(", ")
            told.setdefault(f"{label}, {measure}", []).append(f"{method} {float(c['found']):.6g}")
    for label, found in told.items():
        yield f"  {label}: {', '.join(found)}"


def figures(every: list[dict[str, Any]]) -> Iterator[str]:
    """Times of kernels, verdicts of rows, and the best time of every candidate."""
    for f in every:
        if "kernel" in f:
            ahead = "" if f["seconds"]["queued_ahead"] else "  (starting it took longer than running it)"
            yield (
                f"  {f['case']:32} {f['seconds']['p50'] * 1e6:8.2f} us {f['gb_per_s']:8.0f} GB/s "
                f"{f['share_of_copy']:6.0%} of a copy{ahead}"
            )
        elif "bundle" in f:
            yield f"  {f['model']}, {f['bundle']}: made in {f['export_seconds']:.1f} s"
        elif "verdict" in f:
            yield f"  {f['question']} ({f['model']})"
            yield from (f"    {part}" for part in f["verdict"].split("; "))
        elif "engine_by" in f:
            seconds = f"built in {f['build_seconds']:.1f} s, p50 {f['seconds']['p50'] * 1e3:.1f} ms"
            yield f"  {f['model']:12} by {f['engine_by']}: {seconds}"
        elif "best_of" in f:
            times = f"{f['times_fusion_cam']:.2f} x" if f["times_fusion_cam"] else ""
            yield (
                f"  {f['model']:12} {f['precision']} {f['best_of']:34} chunk {f['chunk']:4}: p50 "
                f"{f['seconds']['p50'] * 1e3:8.1f} ms, p95 {f['seconds']['p95'] * 1e3:8.1f} ms  {times}"
            )
