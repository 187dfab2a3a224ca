"""The layer that is taken by default, for the networks of `zoo.py`: `python benchmarks/layers.py [NAME...]`.

Writes benchmarks/results/layers.json: for every network the layer, its shape, how deep it lies (share of the weighted
operators before it), whether evidence goes past it, whether it is early, whether its gradient is not zero, and whether
`check` passes.
"""

import json
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import zoo

from fusioncam.errors import FusionCamError
from fusioncam.export import check
from fusioncam.export.canonical import canonicalize
from fusioncam.export.layers.choice import survey
from fusioncam.export.random_pictures import pictures

RESULTS = Path(__file__).parent / "results" / "layers.json"


def row(name: str, folder: Path) -> dict[str, Any]:
    """Return what is found for one network."""
    from fusioncam.export import export_torch

    entry = zoo.ENTRIES[name]
    bundle = folder / f"{name.replace('/', '_')}.fcam"
    try:
        manifest = export_torch(zoo.build(entry), zoo.example(entry), bundle, preprocessing="unit")
    except FusionCamError as error:
        return {"error": str(error)}
    layer, source = manifest.layer, bundle.with_suffix(".torch.onnx")
    depth = next(c.depth for c in survey(canonicalize(source)).candidates if c.name == layer.name)
    session = onnxruntime.InferenceSession(bundle / "explain.onnx", providers=["CPUExecutionProvider"])
    feeds = {"image": pictures(manifest, 1), "class_index": np.array([-1])}
    (gradient,) = session.run(["gradients"], feeds)
    return {
        "layer": layer.name, "shape": list(layer.shape), "axes": layer.roles, "offset": layer.offset,
        "depth": round(depth, 3), "bypassed": layer.bypassed, "early": layer.early,
        "gradient_not_zero": bool(np.abs(gradient).max() > 0), "check": all(f.ok for f in check(bundle, source)),
    }  # fmt: skip


def main(names: list[str]) -> None:
    """Fill in the rows of `names`, or of all networks; a result that is there stays."""
    warnings.simplefilter("ignore")
    found = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for name in names or [n for n in zoo.ENTRIES if n not in found]:
        with tempfile.TemporaryDirectory() as folder:
            try:
                found[name] = row(name, Path(folder))
            except Exception as error:  # a library that cannot make the network this small
                found[name] = {"not_made": f"{type(error).__name__}: {error}".splitlines()[0]}
        print(name, found[name], flush=True)
        RESULTS.write_text(json.dumps(dict(sorted(found.items())), indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
