"""The same rows from many processes and machines, with Ray Data: one Explainer per actor."""

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
    """Ray Data, to be asked for before the work begins; raises UsageError where there is none."""
    try:
        importlib.import_module("ray.data")
        return importlib.import_module("ray")
    except ImportError as error:
        raise UsageError('--engine ray needs Ray: pip install "fusioncam[ray]"') from error


class Actor:
    """Evaluates batches of photos, as `map_batches` gives them: columns `name` and `file`, one `evaluated` back.

    What comes back is pickled here: Ray would make tables of it, in which what one row lacks and another has is None.
    An error that ends all of it comes back in place of the rows: raised here, Ray would wrap it in its own.
    """

    def __init__(self, config: EvaluationConfig) -> None:
        self._config, self._evaluator = config, list[Evaluator]()

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """The rows of a batch."""
        photos = [(_text(name), Path(_text(file))) for name, file in zip(batch["name"], batch["file"], strict=True)]
        try:
            if not self._evaluator:
                self._evaluator.append(Evaluator(self._config))
            found: list[Evaluated | Exception] = list(self._evaluator[0].rows(photos))
        except Exception as error:
            found = [error]
        return {"evaluated": np.array([pickle.dumps(each) for each in found], object)}


def _text(name: bytes) -> str:
    """A name as `os.fsencode` sent it: those that are not UTF-8 are no text to Ray."""
    return os.fsdecode(bytes(name))


def rows_with_ray(
    config: EvaluationConfig, workers: int, address: str | None = None
) -> Callable[[Sequence[tuple[str, Path]]], Iterator[Evaluated]]:
    """What `sweep` takes to evaluate with Ray.

    Bundle and photos must be where the config says on every machine. Threads are the cores of this machine, shared out
    among the workers, unless the config says otherwise.

    Args:
        config: What to do.
        workers: Actors, each with sessions of its own.
        address: Of a running cluster; by default Ray is started here, or found as Ray finds it.

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
            told = replace(config, threads=cores) if config.threads is None else config
            items = [{"name": os.fsencode(name), "file": os.fsencode(file)} for name, file in photos]
            data = ray.data.from_items(items).map_batches(
                Actor,
                fn_constructor_args=(told,),
                batch_size=BATCH,
                compute=ray.data.ActorPoolStrategy(size=min(workers, math.ceil(len(photos) / BATCH))),
                num_cpus=cores,
            )
            for item in data.iter_rows():
                found = pickle.loads(item["evaluated"])
                if isinstance(found, Exception):
                    raise found
                yield found
        except ray.exceptions.RayError as error:
            raise FusionCamError(f"Ray could not go on ({first_line(error)}); start it again to finish") from error
        finally:
            if begun:
                ray.shutdown()

    return rows


def _begin(ray: Any, address: str | None) -> None:
    """Start Ray here, or join a cluster; Ray itself would knock at a closed door for many minutes."""
    host, _, port = (address or "").removeprefix("ray://").rpartition(":")
    try:
        if port.isdecimal():
            socket.create_connection((host.strip("[]"), int(port)), PATIENCE).close()
        with native_stderr():  # where Ray says that it is told to say nothing
            ray.init(address=address, log_to_driver=False, include_dashboard=False, logging_level="ERROR")
    except (OSError, OverflowError, RuntimeError, ValueError) as error:
        where = f"no Ray cluster answers at {address}" if address else "Ray does not start"
        raise UsageError(f"{where} ({first_line(error)}); look at --ray-address, or use --engine local") from error


def _cores(ray: Any, workers: int) -> int:
    """CPUs for each actor: an even share of all there are, and no more than one machine has."""
    machines = [int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]]
    return max(1, min(sum(machines) // workers, max(machines, default=1)))
