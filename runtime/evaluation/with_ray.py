"""Rows from many processes and machines, with Ray Data: one Evaluator per actor."""

import importlib
import logging
import math
import os
import pickle
import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from fusioncam.errors import FusionCamError, UsageError, first_line
from fusioncam.runtime.evaluation.evaluator import Evaluated, EvaluationConfig, Evaluator
from fusioncam.runtime.sessions.native_stderr import native_stderr

BATCH = 4  # photos an actor takes at a time: they share chunks
PATIENCE = 10.0  # seconds until a cluster's address must answer


def require_ray() -> Any:
    """Return Ray; raise UsageError, before any work, where it is not installed."""
    try:
        importlib.import_module("ray.data")
        return importlib.import_module("ray")
    except ImportError as error:
        raise UsageError('--engine ray needs Ray: pip install "fusioncam[ray]"') from error


class Actor:
    """An actor that evaluates batches of `map_batches`: columns `name` and `file` in, one column `evaluated` out.

    The results are pickled here: Ray would make a table of them, with None for every key that some rows lack. An error
    that ends the evaluation is returned in place of the rows: Ray would wrap a raised one in its own.
    """

    def __init__(self, config: EvaluationConfig) -> None:
        self._config, self._evaluator = config, list[Evaluator]()

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Return the pickled rows of a batch."""
        # Sent by `os.fsencode`: Ray takes names that are not UTF-8 as bytes only.
        names, files = ([os.fsdecode(bytes(text)) for text in batch[column]] for column in ("name", "file"))
        photos = list(zip(names, map(Path, files), strict=True))
        try:
            if not self._evaluator:
                self._evaluator.append(Evaluator(self._config))
            results: list[Evaluated | Exception] = list(self._evaluator[0].rows(photos))
        except Exception as error:
            results = [error]
        return {"evaluated": np.array([pickle.dumps(result) for result in results], object)}


def rows_with_ray(
    config: EvaluationConfig, workers: int, address: str | None = None
) -> Callable[[Sequence[tuple[str, Path]]], Iterator[Evaluated]]:
    """Return a function that evaluates photos with Ray, for `evaluate_photos`.

    Bundle and photos must lie at the same path on every machine. The CPUs are shared out among the workers, unless the
    config names a number of threads.

    Args:
        config: The evaluation.
        workers: Actors, each with sessions of its own.
        address: Of a running cluster; by default Ray finds one, or is started here.

    Raises:
        UsageError: Ray is not installed. The rows raise it where there is no cluster at the address.
    """
    ray = require_ray()
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # what fails is raised here

    def rows(photos: Sequence[tuple[str, Path]]) -> Iterator[Evaluated]:
        begun = not ray.is_initialized()
        if begun:
            _begin(ray, address)
        try:
            ray.data.DataContext.get_current().enable_progress_bars = False
            cores = _cores(ray, workers)
            of_actor = replace(config, threads=cores) if config.threads is None else config
            items = [{"name": os.fsencode(name), "file": os.fsencode(file)} for name, file in photos]
            data = ray.data.from_items(items).map_batches(
                Actor,
                fn_constructor_args=(of_actor,),
                batch_size=BATCH,
                compute=ray.data.ActorPoolStrategy(size=min(workers, math.ceil(len(photos) / BATCH))),
                num_cpus=cores,
            )
            for item in data.iter_rows():
                result = pickle.loads(item["evaluated"])
                if isinstance(result, Exception):
                    raise result
                yield result
        except ray.exceptions.RayError as error:
            raise FusionCamError(f"Ray failed ({first_line(error)}); run the command again to continue") from error
        finally:
            if begun:
                ray.shutdown()

    return rows


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
