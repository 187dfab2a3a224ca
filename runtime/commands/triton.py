"""`fusioncam triton`: a bundle in a model repository of Triton Inference Server."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from fusioncam.runtime.commands import console
from fusioncam.runtime.commands.completion import choice
from fusioncam.runtime.commands.options import Bundle, Json, Quiet


def triton(
    bundle: Bundle,
    repo: Annotated[
        Path, typer.Option(metavar="DIR", help="Model repository for the bundle, made where it is missing.")
    ],
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="Name of the model for clients [the bundle's].")
    ] = None,
    form: Annotated[
        str,
        choice(
            "single (the graph of export --single) | bls (a Python model drives the passes) | both.", metavar="FORM"
        ),
    ] = "single",
    tensorrt: Annotated[
        bool, typer.Option("--tensorrt", help="TensorRT runs the parts of the graphs that it takes.")
    ] = False,
    instances: Annotated[int, typer.Option(metavar="N", help="Explanations at a time.")] = 1,
    kind: Annotated[
        str | None, choice("Where the graphs run: cpu | gpu [cpu; gpu for TensorRT].", metavar="KIND")
    ] = None,
    version: Annotated[
        int | None, typer.Option(metavar="N", help="Version of the models [the one after the highest].")
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Add a bundle to a model repository of Triton Inference Server."""
    from fusioncam.export.triton import write_repository
    from fusioncam.manifest import read_bundle
    from fusioncam.runtime.methods import EVERY, needs_gradient

    gradient = read_bundle(bundle).gradient
    # Recipro-CAM runs a third graph, which the repository does not hold.
    methods = [m for m in EVERY if m != "recipro_cam" and (gradient or not needs_gradient(m))]
    written = write_repository(
        bundle, repo, methods, name=name, form=form, tensorrt=tensorrt,
        instances=instances, kind=kind, version=version,
    )  # fmt: skip
    if json:
        console.say_json({"repository": str(repo), **asdict(written)})
    else:
        console.say(f"{repo}: version {written.version} of {', '.join(written.models)}")
    if quiet:
        return
    for model in written.edited:
        console.complain(f"{model}/config.pbtxt was edited since it was written, and was left as it is", "note")
    if tensorrt and form != "bls":
        console.complain("TensorRT has not been tried with the single graph's loop: --form bls is safer", "note")
