"""A bundle of any size becomes one of another size: the same layer, preprocessing and classes, and the same weights."""

import os
from dataclasses import replace
from pathlib import Path

from fusioncam.errors import FusionCamError, ModelError, UsageError
from fusioncam.export.assembly import hold, make_draft, write_draft
from fusioncam.export.bundle import Lender, read_frozen, whole_folder
from fusioncam.export.checking.check import compare_logits
from fusioncam.export.options import DEFAULTS, ExportOptions
from fusioncam.free_size import Size, sides
from fusioncam.manifest import SOURCE_GRAPH, Manifest


def derive_bundle(bundle: Path, manifest: Manifest, size: Size, target: Path, twin: Path | None = None) -> Manifest:
    """Make the bundle that an export by `--size H W` would have made, from one by `--size any`.

    Its graphs are compared with the source, as in any export. Its weights are those of the first bundle.

    Args:
        bundle: The folder of the bundle of any size.
        manifest: Its manifest.
        size: (H, W) of the input.
        target: The folder to make.
        twin: A copy of the bundle's weights, of which a link may be made; by default they are copied.

    Returns:
        The manifest of the new bundle.

    Raises:
        UsageError: The model does not take the size, or the bundle is of one size.
        ModelError: The layer cannot explain the model at this size.
        OutputError: The folder cannot be written.
    """
    if manifest.free_size is None:
        raise UsageError(f"{bundle} is of one size, {sides(manifest.preprocessing.size)}; export it with --size any")
    preprocessing = manifest.preprocessing
    options: ExportOptions = {
        **DEFAULTS,
        **manifest.free_size.options,  # type: ignore[typeddict-item]
        "layer": manifest.layer.name,
        "labels": manifest.labels,
        "preprocessing": preprocessing.model_dump(exclude={"size", "origin"}),
        "size": tuple(size),
        "image": manifest.source.input,
        "inputs": read_frozen(bundle),
    }
    source = bundle / SOURCE_GRAPH
    try:
        draft = make_draft(source, options)
    except (ModelError, UsageError) as error:
        raise _at(size, preprocessing.size, error) from error
    # What is said of the model stays: where it came from, and what stood in configurations beside it.
    layer = draft.manifest.layer.model_copy(update={"early": manifest.layer.early})
    stays = {"source": manifest.source, "ending": manifest.ending, "labels": manifest.labels, "drift": manifest.drift}
    sized = preprocessing.model_copy(update={"size": size})
    draft = replace(draft, manifest=draft.manifest.model_copy(update={**stays, "layer": layer, "preprocessing": sized}))
    with whole_folder(target) as folder:
        kept = (bundle / manifest.source.path).resolve()
        path = os.path.relpath(kept, target.resolve()).replace(os.sep, "/")
        made = write_draft(folder, draft, path, options, Lender(bundle, twin))
        hold(draft, compare_logits(folder, made, source))
    return made


def _at(size: Size, own: Size, error: FusionCamError) -> FusionCamError:
    """Return an error that says at which size it occurred."""
    return type(error)(f"at a size of {sides(size)}: {error}; try one nearer to the bundle's own, {sides(own)}")
