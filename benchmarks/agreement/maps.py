"""The comparison of maps with those of pytorch-grad-cam: same weights, same pictures, each map brought to [0, 1].

    python benchmarks/agreement/maps.py [--model FILE --photos FOLDER] [--count N] [-o FILE]

fusioncam runs the bundle on onnxruntime, pytorch-grad-cam the network in torch. Where definitions differ, our variant
of the same definition is compared, and the usual one beside it (without a limit), to see what the difference comes to.
Without --model: a MobileNetV2 with random weights, and drawn pictures. Writes JSON; exit status 1 if a map differs by
more than 1e-3 anywhere. Takes about a minute a picture for 1280 channels.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

LIMIT = 1e-3
NETWORK = "mobilenetv2"


class Pair(NamedTuple):
    """A method here and there: `alike` where both have the same definition, with the difference in `why`."""

    ours: str
    theirs: str
    alike: bool = True
    why: str = ""


PAIRS = (
    Pair("grad_cam", "GradCAM"),
    Pair("grad_cam_pp_eps", "GradCAMPlusPlus"),
    Pair(
        "grad_cam_pp",
        "GradCAMPlusPlus",
        False,
        "it adds 1e-6 to the denominator, which is large beside small gradients",
    ),
    Pair("xgrad_cam", "XGradCAM"),
    Pair("hires_cam", "HiResCAM"),
    Pair("layer_cam", "LayerCAM"),
    Pair("score_cam_corners", "ScoreCAM"),
    Pair(
        "score_cam",
        "ScoreCAM",
        False,
        "it enlarges masks with align_corners=True, and cuts the map off before it is enlarged",
    ),
)


def open_theirs(net: Any) -> Callable[[str, np.ndarray, int], np.ndarray]:
    """Return the function that makes their map (H, W) of a picture (3, H, W) and a class, by the method's name."""
    from functools import cache

    from peers.pytorch_grad_cam_ import open_cam

    explainers = cache(lambda name: open_cam(name, name, net, None, 0))
    return lambda name, x, c: explainers(name)(x, c)[name]


def scaled(found: np.ndarray) -> np.ndarray:
    """Return a map in [0, 1]; a flat map becomes zeros."""
    spread = float(np.ptp(found))
    return (found - found.min()) / spread if spread else np.zeros_like(found)


def compare(subject: Any) -> list[dict[str, Any]]:
    """Return one row per pair: the largest difference of a pixel over all pictures, and the least correlation."""
    from cpu.subjects import in_torch

    from fusioncam import Explainer
    from fusioncam.runtime.bench.fidelity import difference

    theirs = open_theirs(in_torch(subject.name, subject.bundle, subject.pictures[0].x))
    explainer = Explainer(subject.bundle, methods=[pair.ours for pair in PAIRS])
    found: dict[Pair, list[Any]] = {pair: [] for pair in PAIRS}
    for picture in subject.pictures:
        maps = explainer.explain(picture.x, picture.class_index).maps
        other = {name: theirs(name, picture.x, picture.class_index) for name in dict.fromkeys(p.theirs for p in PAIRS)}
        for pair in PAIRS:
            found[pair].append(difference(scaled(maps[pair.ours]), scaled(other[pair.theirs])))
    return [
        {
            **pair._asdict(),
            "pictures": len(each),
            "largest_difference": max(d.largest for d in each),
            "least_correlation": min(d.correlation for d in each),
        }
        for pair, each in found.items()
    ]


def main(arguments: list[str] | None = None) -> int:
    """Compare all maps, print and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--photos", type=Path)
    parser.add_argument("--count", type=int, default=2, help="pictures")
    parser.add_argument("-o", "--out", type=Path)
    asked = parser.parse_args(arguments)
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from cpu.subjects import folder_of_photos, from_file, made_up

    from fusioncam.output import json_bytes, write_atomically

    with tempfile.TemporaryDirectory() as folder:
        if asked.model is None:
            subject = made_up(NETWORK, Path(folder), asked.count)
        else:
            subject = from_file(asked.model, Path(folder), folder_of_photos(asked.photos, asked.count))
        rows = compare(subject)
    for row in rows:
        verdict = "" if not row["alike"] else "ok" if row["largest_difference"] <= LIMIT else "DIFFERS"
        print(
            f"{row['ours']:20} {row['theirs']:16} largest difference {row['largest_difference']:.2e}, "
            f"least correlation {row['least_correlation']:.6f} {verdict}{row['why']}"
        )
    if asked.out:
        write_atomically(asked.out, json_bytes({"network": subject.name, "weights": subject.weights, "maps": rows}))
    return int(any(row["alike"] and not row["largest_difference"] <= LIMIT for row in rows))


if __name__ == "__main__":
    sys.exit(main())
