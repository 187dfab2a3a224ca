"""Load the service: is every answer right, none lost, memory flat, and how near is it to the offline rate?

    python benchmarks/service.py [BUNDLE] [--photos FOLDER] [--minutes 2] [--clients 64] [--grpc] [--quick]

load: one worker, mixed good and bad requests; at the end SIGTERM, with requests under way. killed: two workers, one of
which is killed midway. Good requests differ in picture, class, methods and budget, and every answer is held against the
map that was computed beforehand. The offline rate is that of the same explanations by `Pipeline.run`, as in
`explain_batch`, in this process, before and after. Without a bundle it takes the built-in model and drawn
scenes. Writes results/service.json, with --grpc results/service_grpc.json, with --quick the same into build/bench. Exit
status 1 if a check fails.
"""

import argparse
import asyncio
import os
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
SETTLED = 0.5  # seconds after which a request that was sent is certainly begun
WARMING = 10.0  # seconds in which a worker takes what memory it needs
GROWTH = 0.1  # of memory, between the second and the last quarter of the time
RATE = 0.9  # of the offline rate
STAGES = ("load", "killed")
PACKAGES = (
    "fusioncam",
    "numpy",
    "onnxruntime",
    "onnxruntime-gpu",
    "fastapi",
    "uvicorn",
    "uvloop",
    "httptools",
    "grpcio",
)


def options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("bundle", type=Path, nargs="?", help="what to serve")
    parser.add_argument("--photos", type=Path, metavar="FOLDER", help="what to explain")
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=STAGES)
    parser.add_argument("--minutes", type=float, default=2.0, help="of each stage")
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--budgets", default="32,64,auto", help="of the good requests, in turns")
    parser.add_argument("--works", type=int, default=48, help="different good requests")
    parser.add_argument("--max-batch", type=int, default=8)
    parser.add_argument("--queue", type=int, default=48, help="smaller than the clients, so that some are turned away")
    parser.add_argument("--timeout", type=float, default=60.0)
    parser.add_argument("--threads", type=int, help="of one worker, and offline")
    parser.add_argument("--grpc", action="store_true", help="clients over gRPC, in place of HTTP")
    parser.add_argument("--quick", action="store_true", help="ten seconds each: does it run?")
    parser.add_argument("-o", "--out", type=Path, metavar="FILE")
    asked = parser.parse_args(arguments)
    if asked.quick:
        asked.minutes, asked.works = 1 / 6, min(asked.works, 16)
    asked.budgets = [int(b) if b.isdecimal() else b for b in asked.budgets.split(",")]
    name = "service_grpc.json" if asked.grpc else "service.json"
    asked.out = asked.out or (HERE.parent / "build/bench" if asked.quick else HERE / "results") / name
    return asked


class Test:
    """The cases, their explanations and the requests of all stages."""

    def __init__(self, asked: argparse.Namespace, bundle: Path, photos: Sequence[Path]) -> None:
        from service import sample_requests as samples
        from service.sample_requests import Case, cases, explain_offline

        from fusioncam import Explainer

        self.asked, self.bundle = asked, bundle
        explainer = Explainer(bundle, threads=asked.threads)
        self.cases = cases(photos, explainer.manifest.classes, asked.budgets, asked.works)
        self.chunk = explainer.chunk
        explanations = list(explain_offline(explainer, self.cases))
        self.passes = sum(e.passes.run for e in explanations)
        name = bundle.name.removesuffix(".fcam")
        slow = Case(photos[0], -1, ("fusion_cam",), "exact")
        if asked.grpc:
            from service.grpc_clients import infer_message as encode
        else:
            encode = samples.infer_request
        self.good = samples.good_requests(name, explainer, self.cases, explanations, encode)
        self.bad = samples.bad_requests(name, self.cases[0], slow, encode)
        self.bad += [] if asked.grpc else samples.bad_bodies(name)

    def offline(self) -> tuple[float, float]:
        """Return explanations per second, and CPU seconds of each, without HTTP; files are read and decoded, too."""
        from service.sample_requests import explain_offline

        from fusioncam import Explainer

        explainer = Explainer(self.bundle, threads=self.asked.threads, chunk=self.chunk)
        for _ in explain_offline(explainer, self.cases[:2]):
            pass
        start, cpu, done = time.perf_counter(), time.process_time(), 0
        while not done or time.perf_counter() - start < min(10.0, self.asked.minutes * 30):
            done += sum(1 for _ in explain_offline(explainer, self.cases))
        return done / (time.perf_counter() - start), (time.process_time() - cpu) / done

    def service(self, workers: int) -> Any:
        """Start the service; return it when it is ready."""
        from service.running import Service

        told = {"max-batch": self.asked.max_batch, "queue": self.asked.queue, "timeout": self.asked.timeout}
        told["chunk"] = self.chunk
        if self.asked.grpc:
            told["grpc-port"] = 0
        if self.asked.threads and workers == 1:
            told["threads"] = self.asked.threads
        return Service(self.bundle, workers, [text for k, v in told.items() for text in (f"--{k}", str(v))])


async def crowded(test: Test, service: Any, kill: bool) -> tuple[Any, dict[str, Any]]:
    """Run all clients; tell the service to end while they ask. Return the clients, and a record of events."""
    if test.asked.grpc:
        from service.grpc_clients import GrpcCrowd as Clients
    else:
        from service.clients import Crowd as Clients
    burnt = service.cpu()
    seconds, start, cpu = test.asked.minutes * 60, time.monotonic(), time.process_time()
    port = service.grpc_port if test.asked.grpc else service.port
    crowd = Clients(port, test.good, test.bad, stop=start + seconds + 30)
    weighing = asyncio.create_task(service.weigh())
    asking = asyncio.create_task(crowd.run(test.asked.clients))
    happened: dict[str, Any] = {"start": start}
    if kill:
        await asyncio.sleep(seconds / 2)
        victim = service.workers[0]
        victim.suspend()  # or it would take connections between the look at them and its end
        ports = {0} if test.asked.grpc else service.ports_of(victim)  # gRPC does not tell the port of a call
        happened |= {"killed": time.monotonic(), "ports": ports, "pid": victim.pid}
        victim.kill()
        if test.asked.grpc:  # nobody takes its connections over: calls may go there until it is gone
            await asyncio.to_thread(victim.wait)
            happened["killed"] = time.monotonic()
        await asyncio.sleep(seconds / 2)
    else:
        await asyncio.sleep(seconds)
    happened["cpu"] = (time.process_time() - cpu) / (time.monotonic() - start)
    happened["burnt"] = service.cpu() - burnt
    happened["metrics"] = await asyncio.to_thread(service.metrics)
    weighing.cancel()
    happened["told"] = crowd.told_to_end = crowd.stop = time.monotonic()
    os.kill(service.process.pid, signal.SIGTERM)
    await asyncio.gather(asking)
    happened["stderr"] = await asyncio.to_thread(service.end)
    happened["ended"], happened["status"] = time.monotonic(), service.process.returncode
    return crowd, happened


def judge(test: Test, record: Any, workers: int, kill: bool) -> None:
    """Run one stage and record its checks."""
    before = test.offline()
    service = test.service(workers)
    try:
        crowd, happened = asyncio.run(crowded(test, service, kill))
    finally:
        if service.process.poll() is None:
            service.process.kill()
            service.end()
    after = test.offline()
    told, ended = happened["told"], crowd.ended
    counts = Counter(f"{e.kind}: {e.outcome}" for e in ended)
    for outcome in ("wrong", "unexpected"):
        some = [e.detail for e in ended if e.outcome == outcome][:5]
        record.check(f"{outcome} answers", sum(e.outcome == outcome for e in ended), 0, some=some)
    lost = [e for e in ended if e.outcome == "lost"]
    if kill:
        own = [e for e in lost if e.port in happened["ports"] and e.sent <= happened["killed"]]
        lost = [e for e in lost if e not in own]
        record.figures.append({"what": "requests lost with the killed worker", "found": len(own)})
        later = [e for e in ended if e.outcome == "right" and e.sent > happened["killed"] + 5]
        record.check("right answers later than 5 seconds after a worker was killed", len(later), 1, at_least=True)
    record.check("requests lost that were begun", sum(e.sent < told - SETTLED for e in lost), 0)
    record.check("exit status after SIGTERM", abs(happened["status"]), 0)
    said = [line for line in happened["stderr"].splitlines() if "killed by" not in line]
    record.check("lines on stderr", len(said), 0, some=said[:5])
    rates(test, record, crowd, happened, (before, after))
    weights(record, service, happened)
    record.figures.append({"what": "requests", "all": len(ended), "outcomes": dict(sorted(counts.items()))})
    record.figures.append({"what": "finished after SIGTERM", "found": sum(
        e.outcome == "right" and e.sent + e.seconds > told for e in ended), "seconds": happened["ended"] - told,
        "not begun": len([e for e in lost if e.sent >= told - SETTLED])})  # fmt: skip


def rates(
    test: Test, record: Any, crowd: Any, happened: dict[str, Any], offline: Sequence[tuple[float, float]]
) -> None:
    """Record latency, and throughput against the offline rate."""
    start, told = happened["start"], happened["told"]
    right = [e for e in crowd.ended if e.outcome == "right" and e.sent + e.seconds <= told]
    rate = len(right) / (told - start)
    passes = happened["metrics"].get("fusioncam_chunk_fill_sum", 0.0) * test.chunk / (told - start)
    before, after = offline
    usual, burnt = (before[0] + after[0]) / 2, (before[1] + after[1]) / 2
    offline_passes = usual * test.passes / len(test.cases)
    seconds = [e.seconds for e in right] or [float("nan")]
    p50, p99 = (float(np.percentile(seconds, p)) for p in (50, 99))
    record.figures.append({"what": "seconds of right answers", "p50": p50, "p99": p99, "most": max(seconds)})
    record.figures.append(
        {"what": "largest difference of a right map", "found": max((e.detail for e in right), default=0)}
    )
    record.figures.append({
        "what": "explanations per second", "served": rate, "offline before": before[0], "offline after": after[0],
        "passes per second": passes, "offline passes per second": offline_passes,
        "CPU seconds of an explanation": None if "killed" in happened else happened["burnt"] / max(len(right), 1),
        "offline CPU seconds": burnt,
        "share of a core the clients took": happened["cpu"],
    })  # fmt: skip
    if "killed" not in happened:
        record.target("served over offline, explanations per second", rate / usual, RATE, at_least=True)
        record.target("served over offline, masked passes per second", passes / offline_passes, RATE, at_least=True)


def weights(record: Any, service: Any, happened: dict[str, Any]) -> None:
    """Record whether the memory of the workers is flat."""
    last = happened["told"]
    series: dict[int, list[tuple[float, int]]] = {}
    for when, sizes in service.memory:
        for pid, size in sizes.items():
            series.setdefault(pid, []).append((when, size))
    for pid, weighed in series.items():
        begin = weighed[0][0] + WARMING
        quarter = (last - begin) / 4
        if pid == happened.get("pid") or quarter < 3:
            continue
        second = median(size for when, size in weighed if quarter <= when - begin <= 2 * quarter)
        fourth = median(size for when, size in weighed if when - begin >= 3 * quarter)
        record.figures.append({
            "what": "megabytes of a worker", "in the second quarter": second / 1e6, "in the last": fourth / 1e6,
            "every ten seconds": [round(size / 1e6, 1) for _, size in weighed[::10]],
        })  # fmt: skip
        record.check("growth of a worker's memory", fourth / second - 1, GROWTH)


def drawn(folder: Path) -> tuple[Path, list[Path]]:
    """Return the bundle of the built-in model, and scenes to explain."""
    from fusioncam import export_model
    from fusioncam.runtime.demo import MODEL
    from fusioncam.runtime.service.page.samples import drawn_scenes

    export_model(MODEL, folder / "shapes.fcam")
    photos = []
    for n, (_, read) in enumerate(drawn_scenes()):
        photos.append(folder / f"{n}.png")
        photos[-1].write_bytes(read())
    return folder / "shapes.fcam", photos


def main() -> int:
    """Run the stages and print their results."""
    asked = options()
    sys.path.insert(0, str(HERE))
    from record import guarded, passed, write

    from fusioncam.runtime.bench.machine import describe, versions
    from fusioncam.runtime.photos.folder import photos_of

    with tempfile.TemporaryDirectory() as folder:
        bundle, photos = drawn(Path(folder)) if asked.bundle is None else (asked.bundle, [])
        if asked.photos is not None:
            photos = list(photos_of(asked.photos, False, []).values())
        test = Test(asked, bundle.resolve(), photos[:16])
        report: dict[str, Any] = {
            "when": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": describe(),
            "versions": versions(PACKAGES),
            "settings": {k: v.name if isinstance(v, Path) else v for k, v in vars(asked).items()},
            "chunk": test.chunk,
            "stages": {},
        }
        for stage in asked.stages:
            workers, kill = (2, True) if stage == "killed" else (1, False)
            report["stages"][stage] = guarded(lambda record, w=workers, k=kill: judge(test, record, w, k))
            write(report, asked.out)
    for stage, found in report["stages"].items():
        print(f"{stage}: {found['status']} {found.get('reason', '')}")
        for kind in ("checks", "targets", "figures"):
            for entry in found[kind]:
                print("  ", {k: v for k, v in entry.items() if k != "every ten seconds"})
    return 0 if passed(report["stages"]) else 1


if __name__ == "__main__":
    sys.exit(main())
