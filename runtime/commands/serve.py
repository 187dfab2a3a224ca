"""`fusioncam serve`."""

import os
import re
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fusioncam.errors import UsageError
from fusioncam.runtime.commands import console
from fusioncam.runtime.commands.options import Chunk, Json, Providers, Threads, parts

if TYPE_CHECKING:
    from collections.abc import Sequence

TOKEN = "FUSIONCAM_TOKEN"  # environment variable
TAKEN = ("stats",)  # /v2/models/stats is about all of them
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


def serve(
    bundles: Annotated[
        list[str],
        typer.Argument(metavar="BUNDLE...", help="Bundles made by `fusioncam export`; NAME=BUNDLE names the model."),
    ],
    host: Annotated[str, typer.Option(help="Address to listen at: 0.0.0.0 for all of this machine's.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen at; 0 for one that is free.")] = 8000,
    workers: Annotated[
        int, typer.Option(min=1, max=256, help="Processes, each with the models loaded; they share the cores.")
    ] = 1,
    max_batch: Annotated[
        int, typer.Option(min=1, max=1024, help="Explanations of a model under way together: bounds the memory.")
    ] = 8,
    queue: Annotated[
        int,
        typer.Option(min=0, max=1 << 20, help="Explanations of a model that may wait besides; then 503."),
    ] = 64,
    timeout: Annotated[float, typer.Option(metavar="SECONDS", help="For a request; then 504.")] = 60.0,
    token_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help=f"Holds a token that requests must bear [environment variable {TOKEN}]."),
    ] = None,
    max_body: Annotated[int, typer.Option(metavar="BYTES", help="Of a request, packed or not.")] = 32 << 20,
    max_pixels: Annotated[int, typer.Option(metavar="N", help="Of a photo.")] = 50_000_000,
    max_pictures: Annotated[
        int, typer.Option(metavar="N", help="In a request; no more than queue and batch hold.")
    ] = 16,
    page: Annotated[bool, typer.Option("--page/--no-page", help="Show the page to look at, at /.")] = True,
    docs: Annotated[bool, typer.Option("--docs/--no-docs", help="Describe the service at /docs.")] = True,
    providers: Providers = "cpu",
    chunk: Chunk = None,
    threads: Threads = None,
    json: Json = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say and log nothing but warnings.")] = False,
) -> int:
    """Answer requests for explanations over HTTP, by the Open Inference Protocol (version 2).

    Ends when what was begun is finished, on Ctrl-C or SIGTERM.
    """
    from fusioncam.runtime.service import require_extra

    require_extra()
    from fusioncam.manifest import read_bundle
    from fusioncam.runtime.arguments import checked_count
    from fusioncam.runtime.explainer import MOST_CHUNK, THREADS_PER_CORE
    from fusioncam.runtime.service.http.sockets import is_local, open_sockets, url_of
    from fusioncam.runtime.service.settings import Settings
    from fusioncam.runtime.service.workers.worker_config import WorkerConfig
    from fusioncam.runtime.service.workers.worker_handle import WorkerHandle
    from fusioncam.runtime.service.workers.worker_pool import WorkerPool, cores
    from fusioncam.runtime.sessions.providers import resolve

    models = named(bundles)
    settings = Settings.checked(
        token=_token(token_file), timeout=timeout, max_body=max_body, max_pixels=max_pixels, page=page, docs=docs,
        max_pictures=min(max_pictures, queue + max_batch), concurrency=2 * (queue + max_batch) * len(models),
    )  # fmt: skip
    for bundle in models.values():
        read_bundle(bundle)
    resolve(parts(providers))
    checked_count("chunk", chunk, MOST_CHUNK)
    checked_count("threads", threads, THREADS_PER_CORE * (os.cpu_count() or 1))
    if workers > 1 and os.name != "posix":
        raise UsageError("several workers need Linux or macOS; leave out --workers")
    if threads is None and workers > 1:
        threads = max(1, cores() // workers)
    config = WorkerConfig(
        models, settings, tuple(parts(providers)), chunk, threads, max_batch, queue, "warning" if quiet else "info"
    )
    sockets = open_sockets(host, port, workers)
    address = url_of(sockets[0])
    if not is_local(sockets[0]) and settings.token is None:
        console.complain(
            f"anyone who can reach {address} may use it; give --token-file, or leave out --host", "warning"
        )

    def ready() -> None:
        if json:
            console.say_json({"address": address, "models": list(models), "workers": workers, "pid": os.getpid()})
        elif not quiet:
            console.say(f"serving {', '.join(models)} at {address}")
        sys.stdout.flush()

    if workers == 1:
        from fusioncam.runtime.service.workers.worker import serve as serve_here

        return serve_here(config, sockets[0], ready)
    start = partial(WorkerHandle, config, "fusioncam.runtime.commands.serve_worker")
    return WorkerPool(start, sockets, workers, config.grace, ready, partial(console.complain, kind="warning")).run()


def named(bundles: "Sequence[str]") -> dict[str, Path]:
    """Bundles by the names of their models: as given, or those of their folders.

    Raises:
        UsageError: A name cannot stand in an address, or is given twice.
    """
    models = dict[str, Path]()
    for given in bundles:
        name, equals, path = given.partition("=")
        if not equals or Path(given).exists():
            path = given
            name = Path(given).resolve().name.removesuffix(".fcam")
        if not NAME.fullmatch(name):
            raise UsageError(f"{name!r} cannot be a model's name; name it, of letters, digits, . _ and -: NAME={path}")
        if name in TAKEN:
            raise UsageError(f"/v2/models/{name} is an address of the service itself; name the model: NAME={path}")
        if name in models:
            raise UsageError(f"two models are named {name!r}; name one of them otherwise: NAME={path}")
        models[name] = Path(path).resolve()
    return models


def _token(file: Path | None) -> str | None:
    """The token, from a file or the environment."""
    if file is None:
        given = os.environ.get(TOKEN)
        if given == "":
            raise UsageError(f"the environment variable {TOKEN} is empty; write a token into it, or unset it")
        return given
    try:
        text = file.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        said = error.strerror if isinstance(error, OSError) else "it is no text"
        raise UsageError(f"the token file {file} cannot be read: {said}; name one that can") from error
    if not text:
        raise UsageError(f"the token file {file} is empty; write a token into it")
    return text
