"""The same rows from many processes and machines, with Ray Data: one Explainer per actor."""

import importlib
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from fusioncam.errors import UsageError
from fusioncam.runtime.evaluation.evaluator import Evaluated, Evaluator, Plan

BATCH = 4  # photos an actor takes at a time: they share chunks


def require_ray() -> Any:
    """Ray Data, to be asked for before the work begins; raises UsageError where there is none."""
    try:
        importlib.import_module("ray.data")
        return importlib.import_module("ray")
    except ImportError as error:
        raise UsageError('--engine ray needs Ray: pip install "fusioncam[ray]"') from error


class Actor:
    """Evaluates batches of photos, as `map_batches` gives them: columns `name` and `file`, one `evaluated` back."""

    def __init__(self, plan: Plan) -> None:
        self._evaluator = Evaluator(plan)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """The rows of a batch."""
        photos = [(str(name), Path(file)) for name, file in zip(batch["name"], batch["file"], strict=True)]
        column = np.empty(len(photos), object)
        column[:] = [list(found) for found in self._evaluator.rows(photos)]
        return {"evaluated": column}


def rows_with_ray(
    plan: Plan, workers: int, address: str | None = None
) -> Callable[[Sequence[tuple[str, Path]]], Iterator[Evaluated]]:
    """What `sweep` takes to evaluate with Ray.

    Bundle and photos must be where the plan says on every machine. Threads are the cores of this machine, shared out
    among the workers, unless the plan says otherwise.

    Args:
        plan: What to do.
        workers: Actors, each with sessions of its own.
        address: Of a running cluster; by default Ray is started here, or found as Ray finds it.

    Raises:
        UsageError: Ray is not installed.
    """
    ray = require_ray()
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # what fails is raised here

    def rows(photos: Sequence[tuple[str, Path]]) -> Iterator[Evaluated]:
        begun = not ray.is_initialized()
        if begun:
            ray.init(address=address, log_to_driver=False, include_dashboard=False, logging_level="ERROR")
        try:
            ray.data.DataContext.get_current().enable_progress_bars = False
            cores = max(1, int(ray.cluster_resources().get("CPU", 1)) // workers)
            told = plan if plan.threads else replace(plan, threads=cores)
            items = [{"name": name, "file": str(file)} for name, file in photos]
            data = ray.data.from_items(items).map_batches(
                Actor,
                fn_constructor_args=(told,),
                batch_size=BATCH,
                compute=ray.data.ActorPoolStrategy(size=workers),
                num_cpus=cores,
            )
            for item in data.iter_rows():
                yield Evaluated(*item["evaluated"])
        finally:
            if begun:
                ray.shutdown()

    return rows
