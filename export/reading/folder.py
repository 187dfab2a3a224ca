"""A folder in place of a model file, as model hubs and their exporters lay it out."""

from pathlib import Path

from fusioncam.errors import ModelError
from fusioncam.manifest import MANIFEST

# The paths of optimum and transformers.js for the model itself; smaller versions may lie beside it.
USUAL = ("model.onnx", "onnx/model.onnx")
NAMED = 5  # files that an error lists


def model_file(path: Path) -> Path:
    """Find the ONNX file of a folder; any other path is returned as it is.

    The file is `model.onnx` or `onnx/model.onnx`, or the only .onnx file in the folder or in its `onnx/`.

    Raises:
        ModelError: There is none, or there are several.
    """
    if not path.is_dir():
        return path
    if (path / MANIFEST).is_file():
        raise ModelError(f"{path} is a bundle, not a model: give the .onnx file it was made from")
    every = sorted((*path.glob("*.onnx"), *path.glob("onnx/*.onnx")))
    files = [path / name for name in USUAL if (path / name) in every] or every
    if not files:
        raise ModelError(f"{path} is a folder without an .onnx file in it or in its onnx/; give an .onnx file")
    if len(files) > 1:
        names = ", ".join(str(file.relative_to(path)) for file in files[:NAMED])
        more = f" and {len(files) - NAMED} more" if len(files) > NAMED else ""
        raise ModelError(f"{path} is a folder of several models ({names}{more}); give one of these files")
    return files[0]
