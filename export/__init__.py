"""Build time: a model of images becomes a bundle of plain ONNX graphs that also yield activations and gradients."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from fusioncam.errors import OutputError
from fusioncam.export.assembly import assemble
from fusioncam.export.checking.check import check
from fusioncam.export.free_size import asked_size
from fusioncam.export.inspection import Inspection, inspect_model
from fusioncam.export.options import ExportOptions, takes_options
from fusioncam.export.reading.folder import model_file
from fusioncam.export.reading.from_torch import save_onnx
from fusioncam.export.single import single_graph, unrolled_graphs
from fusioncam.files import temporary_file
from fusioncam.manifest import Manifest

if TYPE_CHECKING:
    import torch

__all__ = ["Inspection", "check", "export_model", "export_torch", "inspect_model", "single_graph", "unrolled_graphs"]


@takes_options
def export_model(
    model: str | os.PathLike[str], bundle: str | os.PathLike[str], **options: Unpack[ExportOptions]
) -> Manifest:
    """Turn an ONNX model into a bundle.

    The bundle's graphs are run against the source before the folder is put in place, so what is there is right.

    Args:
        model: The ONNX file, or a folder as for `inspect_model`; opset 7 or later, float32 or float16, or quantised.
        bundle: The folder to make, usually `NAME.fcam`; an older bundle there is replaced.
        **options: The fields of `fusioncam.export.options.ExportOptions`.

    Returns:
        The manifest, as written.

    Raises:
        ModelError: The model cannot be read, takes no image, has no rule for an operator, or does not
            bear float16 or int8.
        UsageError: An argument does not fit the model, or there are no photos to calibrate on.
        ImageError: A photo to calibrate on is not as the model takes it.
        OutputError: The bundle cannot be written.
    """
    source = model_file(Path(model))
    return assemble(source, source, Path(bundle), options)


@takes_options
def export_torch(
    module: "torch.nn.Module",
    example: "torch.Tensor",
    bundle: str | os.PathLike[str],
    **options: Unpack[ExportOptions],
) -> Manifest:
    """Turn a torch module into a bundle: its plain forward pass is exported first, to NAME.torch.onnx beside it.

    Args:
        module: A model of images.
        example: One input (1, C, H, W).
        bundle: The folder to make, usually `NAME.fcam`.
        **options: As for `export_model`.

    Returns:
        The manifest, as written.

    Raises:
        ModelError: torch is missing or cannot export the module; else as `export_model`.
    """
    target, (size, any_size) = Path(bundle), asked_size(options["size"])
    if any_size and size is None and hasattr(example, "shape"):
        options = {**options, "size": ("any", *example.shape[2:])}
    kept = target.parent / f"{target.name.removesuffix('.fcam')}.torch.onnx"
    try:
        with temporary_file(target.parent, ".onnx") as temporary:
            save_onnx(module, example, temporary, any_size)
            manifest = assemble(temporary, kept, target, options)
            temporary.replace(kept)
    except OSError as error:
        raise OutputError(f"cannot write {kept} ({error.strerror or error}); choose another place with -o") from error
    return manifest
