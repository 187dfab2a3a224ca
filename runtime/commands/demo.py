"""`fusioncam demo`: the built-in model and picture, or a page to try pictures on."""

import os
import sys
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fusioncam.errors import UsageError
from fusioncam.files import temporary_folder
from fusioncam.runtime.commands import console
from fusioncam.runtime.commands.completion import choice
from fusioncam.runtime.commands.options import Json, Quiet
from fusioncam.runtime.commands.serve import Samples, checked_samples, named

if TYPE_CHECKING:
    from fusioncam.kernels.arrays import UInt8Array
    from fusioncam.runtime.results.earlier import Record

OUT, PORT = Path("demo-output"), 8000


TASKS = "classify | segment | embed | detect"


def demo(
    task: Annotated[str, choice(f"What the built-in model does: {TASKS}.", metavar="TASK")] = "classify",
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
    """Export a built-in model and explain the built-in picture with it, or show a page to try your own."""
    model = _built_in(task)
    if web:
        if out is not None:
            raise UsageError("--web writes no results: leave out -o, or --web")
        if bundle is not None and task != "classify":
            raise UsageError("--task chooses a built-in model, --bundle another one: give one of them")
        return _show(bundle, model, samples, PORT if port is None else port, browse, json, quiet)
    for name, is_given in {
        "--bundle": bundle is not None,
        "--samples": samples is not None,
        "--port": port is not None,
        "--no-open": not browse,
    }.items():
        if is_given:
            raise UsageError(f"{name} is for the page: add --web")
    return _write(task, model, OUT if out is None else out, json)


def _built_in(task: str) -> Path:
    """Return the file of the built-in model of a task; raise UsageError where there is none."""
    from fusioncam.runtime.demo import MODELS

    if task not in MODELS:
        raise UsageError(f"there is no built-in model for --task {task}: choose one of {', '.join(MODELS)}")
    return MODELS[task]


def _write(task: str, model: Path, out: Path, json: bool) -> int:
    """Explain the built-in picture into a folder, and return the exit status."""
    from fusioncam.export import export_model
    from fusioncam.runtime.results.named_targets import NamedTargets
    from fusioncam.runtime.results.run import explain_files
    from fusioncam.runtime.results.target_selection import TargetSelection

    scene, bundle = save_sample(out), out / f"{model.stem}.fcam"
    named = NamedTargets(references=[str(save_reference(out))] if task == "embed" else [])
    manifest = export_model(model, bundle)
    explained = out / ("explained" if task == "classify" else f"explained-{task}")
    done = explain_files(bundle, [scene], explained, TargetSelection.of(manifest, named, None, None, None))
    if json:
        console.say_json(done[0] if task == "classify" else done)
    else:
        for picture in dict.fromkeys(record["picture"] for record in done):  # detections share one
            seen = ", ".join(_seen(record) for record in done if record["picture"] == picture)
            console.say(SAID[task].format(scene=scene, seen=seen, why=picture))
    return console.DONE


# By task: what the demo says of each picture of results.
SAID = {
    "classify": "the model sees a {seen} in {scene}; why it does: {why}",
    "segment": "the model sees {seen} in {scene}; why it does: {why}",
    "embed": "{scene} is {seen}; why it is: {why}",
    "detect": "the model detects {seen} in {scene}; why it does: {why}",
}


def _seen(record: "Record") -> str:
    """Return the target of a result, with its confidence."""
    from fusioncam.runtime.picture.titles import probability_title

    return f"{record['label']} ({probability_title(record['probability'])})"


def _show(
    bundle: Path | None, model: Path, samples: Path | None, port: int, browse: bool, json: bool, quiet: bool
) -> int:
    """Serve the page until a signal ends it, and return the exit status."""
    from fusioncam.runtime.service import require_extra

    require_extra()
    from fusioncam.export import export_model
    from fusioncam.manifest import read_bundle
    from fusioncam.runtime.service.http.sockets import open_sockets, url_of
    from fusioncam.runtime.service.settings import Settings
    from fusioncam.runtime.service.workers.worker import serve
    from fusioncam.runtime.service.workers.worker_config import WorkerConfig

    with temporary_folder() as folder:
        if bundle is not None:
            read_bundle(bundle)
        settings = Settings(samples=checked_samples(samples))
        (listening,) = open_sockets("127.0.0.1", port)
        # A built-in model knows the shapes of the samples, so the page may begin with one.
        address = url_of(listening) + ("/#sample" if bundle is None else "/")
        if bundle is None:
            bundle = folder / f"{model.stem}.fcam"
            export_model(model, bundle)
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
    from fusioncam.runtime.demo.scenes import sample_picture

    return _saved(sample_picture().image, folder, "scene.png")


def save_reference(folder: Path) -> Path:
    """Write a picture of one object of the demo's picture into a folder, and return the path of reference.png."""
    from fusioncam.runtime.demo.pairs import sample_pair_pictures

    return _saved(sample_pair_pictures().reference.image, folder, "reference.png")


def _saved(image: "UInt8Array", folder: Path, name: str) -> Path:
    from fusioncam.output import encode_png, prepare_folder, write_atomically

    path = prepare_folder(folder) / name
    write_atomically(path, encode_png(image))
    return path
