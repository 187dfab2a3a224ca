"""The engine of a command with many photos: this process, or the actors of a Ray cluster."""

from typing import Annotated, NamedTuple

from typer import Option

from fusioncam.errors import UsageError
from fusioncam.runtime.commands.completion import choice

ENGINES = ("local", "ray")
MOST_WORKERS = 4096

EngineName = Annotated[str, choice("Who does the work: local (this process) | ray.")]
Workers = Annotated[int, Option(metavar="N", help="Ray actors, each with sessions of its own.")]
RayAddress = Annotated[
    str | None, Option(metavar="ADDRESS", help="Address of a running Ray cluster [one is started here].")
]


class Cluster(NamedTuple):
    """A Ray cluster: the number of actors, and its address; None for one that is found or started here."""

    workers: int
    address: str | None


def checked_cluster(engine: str, workers: int, address: str | None) -> Cluster | None:
    """Return the cluster that does the work; None for this process.

    Raises:
        UsageError: There is no such engine, Ray is not installed, or the options do not go together.
    """
    if engine not in ENGINES:
        raise UsageError(f"no engine {engine!r}; use {' or '.join(ENGINES)}")
    if not 1 <= workers <= MOST_WORKERS:
        raise UsageError(f"workers must be from 1 to {MOST_WORKERS}, not {workers}")
    if engine == "local":
        if workers != 1 or address:
            raise UsageError("--workers and --ray-address are for --engine ray")
        return None
    from fusioncam.runtime.with_ray import require_ray

    require_ray()
    return Cluster(workers, address)
