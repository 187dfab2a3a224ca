"""Stage `maps`: the GPU's maps against those of the CPU."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from record import Record

from fusioncam.kernels.arrays import Array
from fusioncam.runtime.bench.fidelity import difference
from gpu.lab import BACKENDS, BY_HOST, PRECISIONS, Explained, Lab, explain

LARGEST, CORRELATION = 2e-3, 0.999


def check(record: Record, lab: Lab, models: Sequence[str], chunk: int) -> None:
    """Every backend and precision on every model.

    Args:
        record: Gets the checks.
        lab: Models and backends.
        models: Names of files and networks, quick ones first.
        chunk: Masked pictures per run.
    """
    for name in models:
        wanted = lab.reference(name)
        record.figures.append({"model": name, "cpu_flags": wanted.flags, "passes": wanted.passes._asdict()})
        for backend in (BY_HOST, *BACKENDS) if name in lab.files else BACKENDS:
            for precision in lab.precisions(name):
                if (backend == "torch" and name in lab.files) or backend in lab.broken:
                    continue
                label = f"{name}, {precision}, by {backend}"
                try:
                    engine, manifest = lab.open(backend, name, precision, chunk)
                    found = explain(engine, manifest, lab.picture(name), wanted.class_index)
                except Exception as error:  # the other backends shall be checked all the same
                    if backend in lab.broken:
                        record.leave_out(f"maps by {backend}", error)
                    else:
                        record.failed(label, error)
                    continue
                compare(record, label, precision, found, wanted)
        if name not in lab.files and "torch" not in lab.broken:
            plain_torch(record, lab, name, wanted, chunk)
        record.save()


def compare(record: Record, label: str, precision: str, found: Explained, wanted: Explained) -> bool:
    """One explanation against the CPU's: by the largest difference in float32, by correlation in float16."""
    ok = True
    for method, right in wanted.maps.items():
        more: dict[str, Any] = differences(found.maps[method], right)
        if precision == "fp32":
            passed = record.check(f"{label}: {method}, largest difference", more.pop("max"), LARGEST, **more)
        else:
            passed = record.check(
                f"{label}: {method}, correlation", more.pop("correlation"), CORRELATION, at_least=True, **more
            )
        ok = ok and passed
    return ok


def differences(found: Array, wanted: Array) -> dict[str, float]:
    """Largest difference, its 99.9th percentile, pixels beyond the limit, correlation."""
    off = np.abs(found.astype(np.float64) - wanted)
    whole = difference(found, wanted)
    return {
        "max": whole.largest, "p99_9": float(np.percentile(off, 99.9)),
        "pixels_over": int((off > LARGEST).sum()), "pixels": off.size, "correlation": whole.correlation,
    }  # fmt: skip


def plain_torch(record: Record, lab: Lab, name: str, wanted: Explained, batch: int) -> None:
    """Check that the torch program that fusioncam is timed against makes the same Score-CAM."""
    from gpu import score_cams

    for precision in PRECISIONS:
        made = score_cams.plain(lab.on_device(name, precision), batch, wanted.class_index)(lab.input(name))
        more: dict[str, Any] = differences(made, wanted.maps["score_cam"])
        what = f"{name}, {precision}, plain torch: score_cam, correlation"
        record.check(what, more.pop("correlation"), CORRELATION, at_least=True, **more)
