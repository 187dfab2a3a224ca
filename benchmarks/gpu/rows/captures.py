"""Rows about CUDA graphs: does a capture survive another shape, and other threads?"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from record import Record

from fusioncam.errors import first_line
from fusioncam.kernels.device import empty
from fusioncam.runtime.engine.device.run import WARM_UP
from gpu.lab import Lab, explain
from gpu.maps import differences
from gpu.rows.passes import Passes, Setting

OPENED = 4  # engines
ALIKE = 0.999  # correlation of the maps


def survives(record: Record, lab: Lab, setting: Setting) -> str:
    """Row 9: replay the first graph after others were captured and run; its logits must be the same bit by bit."""
    passes = Passes(lab, setting.name, lab.precisions(setting.name)[-1], setting.chunk, capture=True)
    first = passes.run(setting.chunk, 0)
    for _ in range(WARM_UP):
        first()
    before = passes.logits(first, setting.chunk)
    for graph, count in enumerate((min(4, setting.chunk), max(setting.chunk // 2, 1)), 1):
        run = passes.run(count, graph)
        for _ in range(WARM_UP + 1):
            run()
    passes.run(max(setting.chunk - 1, 1))()  # and once without a graph, whose plan takes the place of the others
    off = np.abs(passes.logits(first, setting.chunk) - before).max()
    record.check("the replayed graph's logits are those of before", float(off), 0.0, captured=passes.captured)
    if not passes.captured:
        return "nothing was captured"
    return "the first graph gives the same logits" if off == 0 else f"the first graph's logits are off by {off:.2g}"


def beside_others(record: Record, lab: Lab, setting: Setting) -> str:
    """Row 3: open engines, and explain, while another thread opens sessions, takes and gives back memory."""
    precision, picture = lab.precisions(setting.name)[-1], lab.picture(setting.name)
    wanted = explain(*lab.open("onnxruntime", setting.name, precision, setting.chunk), picture)  # alone
    broken, captured, wrong = [], 0, 0
    with _others(lab, setting, precision) as done:
        for _ in range(OPENED):
            try:
                engine, manifest = lab.open("onnxruntime", setting.name, precision, setting.chunk)
                found = explain(engine, manifest, picture, wanted.class_index)
            except Exception as error:  # what is counted here
                broken.append(f"{type(error).__name__}: {first_line(error)}")
                continue
            captured += found.cuda_graphs
            alike = min(differences(found.maps[m], wanted.maps[m])["correlation"] for m in wanted.maps)
            wrong += alike < ALIKE
    record.figures.append({"opened": OPENED, "broken": broken, "captured": captured, "wrong": wrong, "others": done})
    record.check("engines that broke beside other threads", len(broken), 0, errors=broken)
    record.check("engines with wrong maps beside other threads", wrong, 0)
    return (
        f"of {OPENED} engines opened while another thread worked ({done['sessions']} sessions, {done['memory']} times "
        f"memory), {len(broken)} broke, {wrong} gave wrong maps, {captured} have CUDA graphs"
    )


@contextmanager
def _others(lab: Lab, setting: Setting, precision: str) -> Iterator[dict[str, Any]]:
    """Another thread at work on the same device; gives what it has done, its own errors among it."""
    done: dict[str, Any] = {"sessions": 0, "memory": 0, "errors": []}
    ended = threading.Event()

    def work() -> None:
        while not ended.is_set():
            try:
                with lab.device.entered():
                    for _ in range(20):
                        empty(lab.device, (1 << 20,), np.uint8)
                        done["memory"] += 1
                    passes = Passes(lab, setting.name, precision, 1)
                    passes.logits(passes.run(1), 1)
                    done["sessions"] += 1
            except Exception as error:  # the row tells it
                done["errors"].append(f"{type(error).__name__}: {first_line(error)}")
                ended.wait(0.1)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield done
    finally:
        ended.set()
        thread.join()
