"""The same work in many processes and on many machines, with Ray Data: one worker per actor."""

import importlib
import logging
import math
import os
import pickle
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from fusioncam.errors import FusionCamError, UsageError, first_line
from fusioncam.runtime.sessions.native_stderr import native_stderr

PATIENCE = 10.0  # seconds until a cluster's address must answer

Item = TypeVar("Item")
Result = TypeVar("Result")
Work = Callable[[Sequence[Item]], Iterator[Result]]
"""Works on items, and yields their results."""


def require_ray() -> Any:
    """Return Ray; raise UsageError, before any work, where it is not installed."""
    try:
        importlib.import_module("ray.data")
        return importlib.import_module("ray")
    except ImportError as error:
        raise UsageError('--engine ray needs Ray: pip install "fusioncam[ray]"') from error


class Actor:
    """An actor that works on batches of `map_batches`: a column `item` in, a column `result` out, both pickled.

    Ray would make a table of the results, with None for every key that some of them lack, and takes names that are not
    UTF-8 as bytes only. An error that ends the work is returned in place of results: Ray would wrap a raised one in its
    own.
    """

    def __init__(self, open_worker: Callable[[int], Work[Any, Any]], threads: int, folder: str) -> None:
        with suppress(OSError):  # on another machine, where paths may all be absolute, or addresses
            os.chdir(folder)
        self._open_worker, self._threads, self._work = open_worker, threads, list[Work[Any, Any]]()

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Return the results of a batch."""
        try:
            if not self._work:
                self._work.append(self._open_worker(self._threads))
            results = list(self._work[0]([pickle.loads(item) for item in batch["item"]]))
        except Exception as error:
            results = [error]
        return {"result": np.array([pickle.dumps(result) for result in results], object)}


def with_ray(
    open_worker: Callable[[int], Work[Item, Result]],
    workers: int,
    address: str | None = None,
    *,
    together: int,
    in_order: bool = False,
) -> Work[Item, Result]:
    """Return a function that works with Ray.

    Files must lie at the same path on every machine. The CPUs are shared out among the workers.

    Args:
        open_worker: Opens a worker with this number of CPU threads, in a process of its own; can be pickled.
        workers: Actors, each with a worker.
        address: Of a running cluster; by default Ray finds one, or is started here.
        together: Items that an actor takes at a time: their results come together.
        in_order: Whether the results come in the order of the items.

    Raises:
        UsageError: Ray is not installed. The results raise it where there is no cluster at the address.
    """
    ray = require_ray()
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # what fails is raised here

    def work(items: Sequence[Item]) -> Iterator[Result]:
        begun = not ray.is_initialized()
        if begun:
            _begin(ray, address)
        try:
            context = ray.data.DataContext.get_current()
            context.enable_progress_bars, context.execution_options.preserve_order = False, in_order
            cores = _cores(ray, workers)
            data = ray.data.from_items([{"item": pickle.dumps(item)} for item in items]).map_batches(
                Actor,
                fn_constructor_args=(open_worker, cores, str(Path.cwd())),
                batch_size=together,
                compute=ray.data.ActorPoolStrategy(size=min(workers, math.ceil(len(items) / together))),
                num_cpus=cores,
            )
            for row in data.iter_rows():
                result = pickle.loads(row["result"])
                if isinstance(result, Exception):
                    raise result
                yield result
        except ray.exceptions.RayError as error:
            raise FusionCamError(f"Ray failed ({first_line(error)}); run the command again to continue") from error
        finally:
            if begun:
                ray.shutdown()

    return work


def _begin(ray: Any, address: str | None) -> None:
    """Start Ray here, or join a cluster; Ray itself would try a dead address for many minutes."""
    host, _, port = (address or "").removeprefix("ray://").rpartition(":")
    try:
        if port.isdecimal():
            socket.create_connection((host.strip("[]"), int(port)), PATIENCE).close()
        with native_stderr():  # Ray writes there that its log is off
            ray.init(address=address, log_to_driver=False, include_dashboard=False, logging_level="ERROR")
    except (OSError, OverflowError, RuntimeError, ValueError) as error:
        where = f"no Ray cluster answers at {address}" if address else "Ray does not start"
        raise UsageError(f"{where} ({first_line(error)}); look at --ray-address, or use --engine local") from error


def _cores(ray: Any, workers: int) -> int:
    """Return the CPUs of each actor: an even share of all, and no more than one machine has."""
    machines = [int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]]
    return max(1, min(sum(machines) // workers, max(machines, default=1)))
