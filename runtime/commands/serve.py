"""`fusioncam serve`: bundles behind the Open Inference Protocol."""

import os
import re
import sys
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, Option

from fusioncam.errors import UsageError
from fusioncam.runtime.commands import console
from fusioncam.runtime.commands.lists import parts
from fusioncam.runtime.commands.options import AllowCpu, Budget, Chunk, Json, Providers, Threads

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from socket import socket

    from fusioncam.runtime.service.workers.worker_config import WorkerConfig

TOKEN = "FUSIONCAM_TOKEN"  # environment variable
TAKEN = ("stats",)  # /v2/models/stats is about all of them
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


Bundles = Annotated[
    list[str],
    Argument(
        metavar="BUNDLE...",
        help="Bundles made by `fusioncam export`, or folders that hold one per version: 1/, 2/; NAME=BUNDLE names the "
        "model.",
    ),
]
Host = Annotated[str, Option(metavar="ADDRESS", help="Address to listen at: 0.0.0.0 for all of this machine's.")]
Port = Annotated[int, Option(metavar="N", min=0, max=65535, help="Port to listen at; 0 for one that is free.")]
GrpcPort = Annotated[
    int | None,
    Option(
        metavar="N", min=0, max=65535, help="Port to answer gRPC at, too; 0 for one that is free.", show_default=False
    ),
]
Workers = Annotated[
    int, Option(metavar="N", min=1, max=256, help="Processes, each with the models loaded; they share the cores.")
]
MaxBatch = Annotated[
    int, Option(metavar="N", min=1, max=1024, help="Explanations of a model in progress at a time: bounds the memory.")
]
Queue = Annotated[int, Option(metavar="N", min=0, max=1 << 20, help="Explanations of a model that may wait; then 503.")]
Timeout = Annotated[float, Option(metavar="SECONDS", help="Time for a request; then 504.")]
Deadline = Annotated[
    str | None,
    Option(
        metavar="TIME", help="In place of --budget: the best map within this time from the request, like 500ms or 2s."
    ),
]
ExplainIf = Annotated[
    str | None,
    Option(
        metavar="CONDITION",
        help='Make maps only where it holds of the prediction, like "probability < .6" or "class in zebra,lion".',
    ),
]
TokenFile = Annotated[
    Path | None,
    Option(metavar="FILE", help=f"File with a token that requests must carry [environment variable {TOKEN}]."),
]
MaxBody = Annotated[int, Option(metavar="BYTES", help="Most bytes of a request, packed or not.")]
MaxPixels = Annotated[int, Option(metavar="N", help="Most pixels of a photo.")]
MaxPictures = Annotated[int, Option(metavar="N", help="Most pictures of a request; queue and batch bound it, too.")]
Page = Annotated[bool, Option("--page/--no-page", help="Serve the page at /.")]
Samples = Annotated[
    Path | None,
    Option(
        metavar="FOLDER",
        help="Photos to try on the page, at most 10; all who may use the service can see them.",
    ),
]
Docs = Annotated[bool, Option("--docs/--no-docs", help="Describe the service at /docs.")]
Quiet = Annotated[bool, Option("--quiet", "-q", help="Print and log only warnings.")]


def serve(
    bundles: Bundles,
    host: Host = "127.0.0.1",
    port: Port = 8000,
    grpc_port: GrpcPort = None,
    budget: Budget = "auto",
    deadline: Deadline = None,
    explain_if: ExplainIf = None,
    workers: Workers = 1,
    max_batch: MaxBatch = 8,
    queue: Queue = 64,
    timeout: Timeout = 60.0,
    token_file: TokenFile = None,
    max_body: MaxBody = 32 << 20,
    max_pixels: MaxPixels = 50_000_000,
    max_pictures: MaxPictures = 16,
    page: Page = True,
    samples: Samples = None,
    docs: Docs = True,
    providers: Providers = "cpu",
    allow_cpu: AllowCpu = False,
    chunk: Chunk = None,
    threads: Threads = None,
    json: Json = False,
    quiet: Quiet = False,
) -> int:
    """Answer requests for explanations over HTTP and gRPC, by the Open Inference Protocol (version 2).

    --budget, --deadline and --explain-if are for requests that name none themselves.
    Ctrl-C or SIGTERM ends it, after running requests are answered.
    """
    from fusioncam.runtime.service import require_extra

    require_extra(grpc_port is not None)
    from fusioncam.runtime.service.http.sockets import open_sockets, reserved_port, url_of
    from fusioncam.runtime.service.repository.layout import bundles_by_version
    from fusioncam.runtime.service.settings import Settings
    from fusioncam.runtime.service.workers.worker_config import WorkerConfig

    models = named(bundles)
    settings = Settings.checked(
        budget=_default_budget(budget, deadline), explain_if=explain_if, token=_token(token_file), timeout=timeout,
        max_body=max_body, max_pixels=max_pixels, max_pictures=min(max_pictures, queue + max_batch),
        concurrency=2 * (queue + max_batch) * len(models), page=page, docs=docs,
        samples=checked_samples(samples, page),
    )  # fmt: skip
    for bundle in chain.from_iterable(bundles_by_version(path).values() for path in models.values()):
        settings.check_bundle(bundle)
    _check_ports(port, grpc_port)
    threads = _checked_threads(parts(providers), chunk, threads, workers)
    with reserved_port(host, grpc_port, workers) as grpc_address:
        sockets = open_sockets(host, port, workers)
        config = WorkerConfig(
            models, settings, tuple(parts(providers)), chunk, threads, max_batch, queue,
            log_level="warning" if quiet else "info", allow_cpu=allow_cpu, grpc_address=grpc_address,
        )  # fmt: skip
        _warn_of_strangers(sockets[0], config)
        said = {"address": url_of(sockets[0]), "models": list(models), "workers": workers, "pid": os.getpid()}
        said |= {} if grpc_address is None else {"grpc_address": grpc_address}
        return _run(config, sockets, workers, partial(_say_ready, said, json, quiet))


def _check_ports(port: int, grpc_port: int | None) -> None:
    """Raise UsageError where two protocols have one port: connections would be dealt out to either."""
    if port and port == grpc_port:
        raise UsageError(f"--port and --grpc-port are both {port}; give each protocol a port of its own")


def _warn_of_strangers(listening: "socket", config: "WorkerConfig") -> None:
    """Print a warning where other machines can reach a service without a token."""
    from fusioncam.runtime.service.http.sockets import is_local, url_of

    if config.settings.token is None and not is_local(listening):
        message = f"anyone who can reach {url_of(listening)} may use it; give --token-file, or leave out --host"
        console.complain(message, "warning")


def _say_ready(said: dict[str, Any], json: bool, quiet: bool) -> None:
    """Print that the service is ready: its address and models."""
    if json:
        console.say_json(said)
    elif not quiet:
        beside = f", gRPC at {said['grpc_address']}" if "grpc_address" in said else ""
        console.say(f"serving {', '.join(said['models'])} at {said['address']}{beside}")
    sys.stdout.flush()


def _default_budget(budget: str, deadline: str | None) -> str:
    """Return the budget of requests that name none; raise UsageError where the two options contradict each other."""
    if deadline is None:
        return budget
    from fusioncam.runtime import budget as budgets

    if budget != "auto":
        raise UsageError("--budget and --deadline are two ways to limit an explanation: give one of them")
    if not isinstance(budgets.parse_budget(deadline), budgets.Deadline):
        raise UsageError(f"--deadline is a time like 500ms or 2s, not {deadline!r}; --budget takes all other budgets")
    return deadline


def checked_samples(folder: Path | None, page: bool = True) -> Path | None:
    """Return the absolute path of the samples' folder; raise UsageError where it holds no photo, or has no page."""
    from fusioncam.runtime.photos.folder import photos_of

    if folder is None:
        return None
    if not page:
        raise UsageError("--samples are for the page: leave out --no-page")
    photos_of(folder, recursive=True)
    return folder.resolve()


def _checked_threads(providers: "Sequence[str]", chunk: int | None, threads: int | None, workers: int) -> int | None:
    """Check the options of sessions, and return the threads of each worker; None leaves them to onnxruntime."""
    from fusioncam.runtime.arguments import checked_count
    from fusioncam.runtime.opening import MOST_CHUNK, THREADS_PER_CORE
    from fusioncam.runtime.providers.naming import resolve
    from fusioncam.runtime.service.workers.worker_pool import cores

    resolve(providers)
    checked_count("chunk", chunk, MOST_CHUNK)
    checked_count("threads", threads, THREADS_PER_CORE * (os.cpu_count() or 1))
    if workers > 1 and os.name != "posix":
        raise UsageError("several workers need Linux or macOS; leave out --workers")
    return max(1, cores() // workers) if threads is None and workers > 1 else threads


def _run(config: "WorkerConfig", sockets: "list[socket]", workers: int, ready: "Callable[[], None]") -> int:
    """Serve in this process, or in several that a pool keeps, and return the exit status."""
    if workers == 1:
        from fusioncam.runtime.service.workers.worker import serve as serve_here

        return serve_here(config, sockets[0], ready)
    from fusioncam.runtime.service.workers.worker_handle import WorkerHandle
    from fusioncam.runtime.service.workers.worker_pool import WorkerPool

    start = partial(WorkerHandle, config, "fusioncam.runtime.commands.serve_worker")
    warn = partial(console.complain, kind="warning")
    return WorkerPool(start, sockets, workers, config.grace, ready, warn, list(config.models)).run()


def named(bundles: "Sequence[str]") -> dict[str, Path]:
    """Return the bundles by the names of their models: as given, or those of their folders.

    Raises:
        UsageError: A name is unfit for an address, or is given twice.
    """
    models = dict[str, Path]()
    for bundle in bundles:
        name, equals, path = bundle.partition("=")
        if not equals or Path(bundle).exists():
            path = bundle
            name = Path(bundle).resolve().name.removesuffix(".fcam")
        if not NAME.fullmatch(name):
            raise UsageError(f"{name!r} cannot be a model's name; name it, of letters, digits, . _ and -: NAME={path}")
        if name in TAKEN:
            raise UsageError(f"/v2/models/{name} is an address of the service itself; name the model: NAME={path}")
        if name in models:
            raise UsageError(f"two models are named {name!r}; name one of them otherwise: NAME={path}")
        models[name] = Path(path).resolve()
    return models


def _token(file: Path | None) -> str | None:
    """Return the token, from a file or the environment."""
    if file is None:
        token = os.environ.get(TOKEN)
        if token == "":
            raise UsageError(f"the environment variable {TOKEN} is empty; write a token into it, or unset it")
        return token
    try:
        text = file.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise UsageError(f"the token file {file} cannot be read: {reason}; name another file") from error
    if not text:
        raise UsageError(f"the token file {file} is empty; write a token into it")
    return text
