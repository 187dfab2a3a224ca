"""`fusioncam demo`: the built-in model and picture, or a page to try pictures on."""

import os
import sys
import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from fusioncam.errors import UsageError
from fusioncam.files import temporary_folder
from fusioncam.runtime.commands import console
from fusioncam.runtime.commands.options import Json, Quiet
from fusioncam.runtime.commands.serve import Samples, checked_samples, named

OUT, PORT = Path("demo-output"), 8000


def demo(
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="DIR", help=f"Folder for the results [{OUT}].")
    ] = None,
    web: Annotated[bool, typer.Option("--web", help="Show a page to try it on, in place of writing results.")] = False,
    bundle: Annotated[
        Path | None, typer.Option(metavar="BUNDLE", help="With --web: a model in place of the built-in one.")
    ] = None,
    samples: Samples = None,
    port: Annotated[
        int | None,
        typer.Option(
            metavar="N", min=0, max=65535, help=f"With --web: port of the page [{PORT}]; 0 for one that is free."
        ),
    ] = None,
    browse: Annotated[bool, typer.Option("--open/--no-open", help="With --web: open the page in a browser.")] = True,
    json: Json = False,
    quiet: Quiet = False,
) -> int:
    """Export the built-in model and explain the built-in picture with it, or show a page to try your own."""
    if web:
        if out is not None:
            raise UsageError("--web writes no results: leave out -o, or --web")
        return _show(bundle, samples, PORT if port is None else port, browse, json, quiet)
    for name, is_given in {
        "--bundle": bundle is not None,
        "--samples": samples is not None,
        "--port": port is not None,
        "--no-open": not browse,
    }.items():
        if is_given:
            raise UsageError(f"{name} is for the page: add --web")
    return _write(OUT if out is None else out, json, quiet)


def _write(out: Path, json: bool, quiet: bool) -> int:
    """Explain the built-in picture into a folder, and return the exit status."""
    from fusioncam.export import export_model
    from fusioncam.runtime.demo import MODEL
    from fusioncam.runtime.picture.titles import probability_title
    from fusioncam.runtime.results.run import explain_files

    scene = save_sample(out)
    export_model(MODEL, out / "shapes.fcam")
    (done,) = explain_files(out / "shapes.fcam", [scene], out / "explained")
    if json:
        console.say_json(done)
    else:
        seen = f"{done['label']} ({probability_title(done['probability'])})"
        console.say(f"the model sees a {seen} in {scene}; why it does: {done['picture']}")
    return console.DONE


def _show(bundle: Path | None, samples: Path | None, port: int, browse: bool, json: bool, quiet: bool) -> int:
    """Serve the page until a signal ends it, and return the exit status."""
    from fusioncam.runtime.service import require_extra

    require_extra()
    from fusioncam.export import export_model
    from fusioncam.manifest import read_bundle
    from fusioncam.runtime.demo import MODEL
    from fusioncam.runtime.service.http.sockets import open_sockets, url_of
    from fusioncam.runtime.service.settings import Settings
    from fusioncam.runtime.service.workers.worker import serve
    from fusioncam.runtime.service.workers.worker_config import WorkerConfig

    with temporary_folder() as folder:
        if bundle is not None:
            read_bundle(bundle)
        settings = Settings(samples=checked_samples(samples))
        (listening,) = open_sockets("127.0.0.1", port)
        # The built-in model knows the shapes of the samples, so the page may begin with one.
        address = url_of(listening) + ("/#sample" if bundle is None else "/")
        if bundle is None:
            bundle = folder / "shapes.fcam"
            export_model(MODEL, bundle)
        models = named([str(bundle)])

        def ready() -> None:
            if json:
                console.say_json({"address": address, "models": list(models), "pid": os.getpid()})
            elif not quiet:
                console.say(f"the page is at {address} (Ctrl-C ends it)")
            sys.stdout.flush()
            if browse and _has_screen():
                webbrowser.open(address)

        return serve(WorkerConfig(models, settings, log_level="warning"), listening, ready)


def _has_screen() -> bool:
    """Return whether a browser can open a window; without one, Python opens a browser in the terminal."""
    return not sys.platform.startswith("linux") or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))


def save_sample(folder: Path) -> Path:
    """Write the demo's picture into a folder, and return the path of scene.png."""
    from fusioncam.output import encode_png, prepare_folder, write_atomically
    from fusioncam.runtime.demo.scenes import sample_picture

    path = prepare_folder(folder) / "scene.png"
    write_atomically(path, encode_png(sample_picture().image))
    return path
