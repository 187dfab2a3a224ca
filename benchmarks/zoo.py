"""The zoo: networks of libraries, as ONNX files in each way they are written, through `fusioncam export` and `check`.

    python benchmarks/zoo.py                        # networks of torchvision, timm and transformers
    python benchmarks/zoo.py --only timm/           # those whose name begins so
    python benchmarks/zoo.py --files FOLDER         # ONNX files of other frameworks, see zoo/keras_files.py

Each network is tried in a process of its own, which has a time limit. results/zoo.json is written after each, and the
table of docs/reference/networks.md at the end; what the file holds already is kept, unless --again is given.
"""

import argparse
import json
import math
import multiprocessing
import resource
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from datetime import date
from importlib.metadata import distributions
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from zoo.grading import good, grade
from zoo.report import write_page

RESULTS = Path(__file__).with_name("results") / "zoo.json"
LIBRARIES = ("torch", "torchvision", "timm", "transformers", "onnx", "onnxruntime", "onnxruntime-gpu")
PATIENCE = 10  # times the limit, on a machine that others use, too


def main() -> None:
    """Try what is asked for, and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", default=[""], metavar="NAME", help="beginnings of names")
    parser.add_argument("--ways", nargs="*", metavar="WAY", help="beginnings of the ways")
    parser.add_argument("--files", type=Path, metavar="FOLDER")
    parser.add_argument("--limit", type=float, default=300, metavar="SECONDS", help="of computing, for one network")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--again", action="store_true")
    parser.add_argument("-o", "--out", type=Path, default=RESULTS)
    asked = parser.parse_args()
    found: dict[str, Any] = json.loads(asked.out.read_text()) if asked.out.exists() else {"networks": {}}
    networks = found["networks"]
    every = [trial for trial in _trials(asked) if asked.again or trial[0] not in networks]
    todo = list(dict.fromkeys(trial for start in asked.only for trial in every if trial[0].startswith(start)))
    for name, rows in _results(todo, asked.limit, asked.jobs):
        networks[name] = {**networks.get(name, {}), **rows}
        versions = {**found.get("versions", {}), **_versions()}  # rows that are kept may be of other libraries
        found = {"date": date.today().isoformat(), "versions": versions, "networks": dict(sorted(networks.items()))}
        asked.out.write_text(json.dumps(found, indent=1) + "\n")
        for way, row in rows.items():
            print("ok  " if good(row) else "FAIL", name, "|", way, "|", _line(row), flush=True)
    if asked.out == RESULTS:
        write_page(found)


def _versions() -> dict[str, str]:
    present = {d.metadata["Name"]: d.version for d in distributions()}
    return {name: present[name] for name in LIBRARIES if name in present}


def _line(row: dict[str, Any]) -> str:
    told = ("why", "refused", "fault", "failed", "shape", "layer", "depth", "seconds", "nodes", "autograd_error")
    return ", ".join(f"{key} {row[key]}" for key in told if key in row)[:400]


Trial = tuple[str, Callable[[Path], dict[str, Any]]]


def _trials(asked: argparse.Namespace) -> Iterator[Trial]:
    """Yield the name of each network, and what tries it in an empty folder."""
    if asked.files is not None:
        for path in sorted(asked.files.glob("*/*.onnx")):
            yield f"{path.parent.name}/{path.stem}", lambda folder, path=path: {"file": _of_file(path, folder)}
        return
    from zoo.torch_trials import trials

    yield from trials(asked.ways)


def _of_file(path: Path, folder: Path) -> dict[str, Any]:
    link = folder / path.name
    link.symlink_to(path.resolve())
    return grade(link, {})


def _results(todo: list[Trial], limit: float, jobs: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the name of each network and its rows by the way of exporting, as they come."""
    context = multiprocessing.get_context("fork")  # the libraries are imported once
    running: list[tuple[str, Any, Connection, float]] = []
    queue = list(todo)
    while queue or running:
        while queue and len(running) < jobs:
            name, trial = queue.pop(0)
            receiver, sender = context.Pipe(duplex=False)
            process = context.Process(target=_run, args=(trial, limit, sender), daemon=True)
            process.start()
            sender.close()
            running.append((name, process, receiver, time.monotonic() + PATIENCE * limit))
        for each in list(running):
            name, process, receiver, until = each
            if receiver.poll(0.2) or not process.is_alive() or time.monotonic() > until:
                yield name, _received(process, receiver, limit)
                running.remove(each)


def _received(process: Any, receiver: Connection, limit: float) -> dict[str, Any]:
    late = process.is_alive() and not receiver.poll()
    if late:
        process.kill()
    try:
        rows: dict[str, Any] = receiver.recv()
    except EOFError:
        process.join()
        why = f"not done after {limit:.0f} s" if late else f"ended with {process.exitcode}"
        rows = {"process": {"runs": None, "fault": why}}
    process.join()
    return rows


def _run(trial: Callable[[Path], dict[str, Any]], limit: float, sender: Connection) -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(limit), math.ceil(limit)))
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        try:
            sender.send(trial(Path(folder)))
        except Exception as error:  # a library that cannot make the network
            last = traceback.extract_tb(error.__traceback__)[-1]
            why = f"{type(error).__name__}: {error} ({last.filename}:{last.lineno})"[:300]
            sender.send({"made": {"runs": None, "why": why}})


if __name__ == "__main__":
    main()
