"""A row about threads that come and go: do they get CUDA graphs, and do they leave something on the device?"""

import threading
import time
from typing import Any

from record import Record, spread

from fusioncam.errors import first_line
from gpu.lab import Lab, explain
from gpu.machine import free_memory
from gpu.rows.passes import Setting

THREADS = 8
LEFT = 16.0  # MiB that all threads together may leave: one context of cuBLAS and cuDNN takes more
SLOWER = 1.5  # times the opening thread's that another thread may take: a capture takes more


def callers(record: Record, lab: Lab, setting: Setting) -> str:
    """Row 8: explanations from the thread that opened the engine, and from threads that end after one."""
    engine, manifest = lab.open("onnxruntime", setting.name, lab.precisions(setting.name)[-1], setting.chunk)

    def once() -> float:
        begun = time.perf_counter()
        explain(engine, manifest, lab.picture(setting.name))
        return time.perf_counter() - begun

    once()
    busy, own = time.process_time(), spread([once() for _ in range(setting.samples)])
    busy = (time.process_time() - busy) / setting.samples
    before, broken, seconds = free_memory(lab.device), [], []

    def work() -> None:
        try:
            seconds.append(once())
        except Exception as error:  # what is counted here
            broken.append(f"{type(error).__name__}: {first_line(error)}")

    for _ in range(THREADS):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    left = (before - free_memory(lab.device)) / 2**20
    record.check("explanations that broke on other threads", len(broken), 0, errors=broken)
    record.check("MiB of the device that other threads leave behind", left, LEFT)
    if not seconds:
        return f"all {THREADS} explanations on other threads broke"
    others: dict[str, Any] = spread(seconds)
    record.figures.append({"own_seconds": own, "others_seconds": others, "left_mib": left, "cpu_seconds": busy})
    record.target("times the opening thread's that other threads take", others["p50"] / own["p50"], SLOWER)
    return (
        f"an explanation takes {1e3 * own['p50']:.1f} ms ({1e3 * busy:.1f} ms of CPU) on the opening thread, "
        f"{1e3 * others['p50']:.1f} ms on others, which leave {left:.0f} MiB behind"
    )
