"""Metadata of the single graph, with which it runs without a manifest."""

from collections.abc import Iterable

from fusioncam.manifest import Manifest

PREFIX = "fusioncam."
WITH_TARGETS = 3  # version of the metadata of graphs that take more of a target than a class


def metadata(manifest: Manifest) -> dict[str, str]:
    """Return strings by key: numbers that read back exactly, lists separated by blanks, labels one a line."""
    prep = manifest.preprocessing
    # Readers of version 1 know one filter and one rounding, and would not notice that others are asked for.
    letterbox = prep.resize == "letterbox"
    newer = prep.interpolation != "bilinear" or prep.crop_rounding != "even" or letterbox
    form = manifest.form
    said = {
        "schema_version": WITH_TARGETS if form.scored else 2 if newer else manifest.schema_version,
        "size": _list(prep.size),
        "channel_order": prep.channel_order if isinstance(prep.channel_order, str) else _list(prep.channel_order),
        "rescale": prep.rescale,
        "mean": _list(prep.mean),
        "std": _list(prep.std),
        "resize": prep.resize,
        "crop_fraction": prep.crop_fraction,
        "crop_rounding": prep.crop_rounding,
        "interpolation": prep.interpolation,
        "preprocessing_origin": prep.origin,
        "classes": manifest.classes,
        "ending": manifest.ending,
        "reach": manifest.source.reach,
        "layer": manifest.layer.name,
        "source_sha256": manifest.source.sha256,
    }
    if letterbox:
        said |= {"pad": _list(prep.pad), "pad_place": prep.pad_place, "pad_rounding": prep.pad_rounding}
    if manifest.labels is not None:
        said["labels"] = "\n".join(" ".join(label.splitlines()) for label in manifest.labels)
    if form.scored:
        said["task"] = manifest.task
    if manifest.map_size is not None:
        said["map_size"] = _list(manifest.map_size)
    if manifest.detector is not None:
        facts = manifest.detector.model_dump(exclude_none=True, exclude={"mask_size"})
        said |= {key: int(fact) if isinstance(fact, bool) else fact for key, fact in facts.items()}
    return {f"{PREFIX}{key}": str(value) for key, value in said.items()}


def _list(values: Iterable[float]) -> str:
    return " ".join(map(str, values))
