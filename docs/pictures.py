"""Makes the pictures of the documentation, from the built-in model and its drawn scenes: python docs/pictures.py."""

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from drawing.browser import page
from drawing.diagrams import DIAGRAMS
from drawing.lab import SCENE, Lab
from drawing.tiles import Tile, grey, heat, laid, sheet, shown, signed
from drawing.vector import Axis, chart

from fusioncam import Explainer, detections_panel, export_model
from fusioncam.export.randomise import randomised_bundle
from fusioncam.kernels import reference
from fusioncam.kernels.arrays import UInt8Array
from fusioncam.runtime.commands.demo import save_sample
from fusioncam.runtime.demo import DETECTOR, MODEL
from fusioncam.runtime.demo.scenes import draw_scene
from fusioncam.runtime.difference import difference
from fusioncam.runtime.photos.model_input import as_input
from fusioncam.runtime.picture import method_title, overlay_difference
from fusioncam.runtime.probes.blur import blurred
from fusioncam.runtime.probes.controls import CONTROLS
from fusioncam.runtime.results.run import explain_files
from fusioncam.runtime.sessions.open import open_session

FOLDER = Path(__file__).with_name("pictures")
QUALITY = 82
ONE = draw_scene(1, (384, 384)).image
GALLERY = (
    *("grad_cam", "grad_cam_pp", "xgrad_cam", "hires_cam", "layer_cam"),
    *("score_cam", "group_cam", "recipro_cam", "union_cam", "fusion_cam"),
)


def demo(lab: Lab) -> UInt8Array:
    """Draw the panel of `fusioncam demo`."""
    explain_files(lab.bundle, [save_sample(lab.folder)], lab.folder / "out")
    return np.asarray(cv2.imread(str(lab.folder / "out" / "scene.png"))[..., ::-1])


def layers(lab: Lab) -> UInt8Array:
    """The same picture, explained by layers of different sizes."""
    tiles = [shown("Input", SCENE)]
    for layer in ("relu", "relu_1", "relu_3", "relu_6"):
        manifest = export_model(MODEL, lab.folder / f"{layer}.fcam", layer=layer)
        found = Explainer(lab.folder / f"{layer}.fcam", methods=["grad_cam"]).explain(SCENE)
        k, h, w = manifest.layer.shape
        tiles.append(laid(layer, SCENE, found.maps["grad_cam"], f"{k} channels of {h} x {w}"))
    return sheet([tiles])


def preprocessing(lab: Lab) -> UInt8Array:
    """Draw the maps by a wrong preprocessing beside those by the right one."""
    wrong: dict[str, dict[str, Any]] = {
        "As trained": {},
        "0..255, not 0..1": {"rescale": 1.0, "mean": (0, 0, 0), "std": (1, 1, 1)},
        "0..1, no mean, no std": {"rescale": 1 / 255, "mean": (0, 0, 0), "std": (1, 1, 1)},
        "torchvision's": {"preset": "torchvision"},
    }
    tiles = []
    for title, fields in wrong.items():
        export_model(MODEL, lab.folder / "wrong.fcam", preprocessing=fields or None)
        found = Explainer(lab.folder / "wrong.fcam").explain(SCENE)
        tiles.append(laid(title, SCENE, found.maps["fusion_cam"], f"{found.label}, {found.probability:.2f}"))
    return sheet([tiles])


def evidence(lab: Lab) -> UInt8Array:
    """Activations, gradients and their means for some channels of a layer, and Grad-CAM by it."""
    export_model(MODEL, lab.folder / "middle.fcam", layer="relu_5")
    _, activations, gradients = lab.explained(open_session(lab.folder / "middle.fcam" / "explain.onnx"))
    alpha = gradients.mean(axis=(1, 2))
    order = np.argsort(alpha * activations.max(axis=(1, 2)))
    chosen = [*order[::-1][:3], order[0]]
    tops = [grey(f"A, channel {k}", _unit(activations[k]), smooth=False) for k in chosen]
    below = [signed(f"g, channel {k}", gradients[k], f"mean {alpha[k]:+.4f}") for k in chosen]
    return sheet([tops, [*below, laid("Grad-CAM", SCENE, reference.grad_cam(activations, gradients, lab.size))]])


def masks(lab: Lab) -> UInt8Array:
    """Channels, their masks and masked pictures with what the model makes of them, and Score-CAM."""
    ordered = sorted(lab.scores, key=lambda k: lab.scores[k])
    chosen = [ordered[-1], ordered[-3], ordered[len(ordered) // 2], ordered[0]]
    masked = [
        shown("x M", lab.seen(lab.x * lab.masks.full(k)), f"logit of the class {lab.scores[k]:+.2f}") for k in chosen
    ]
    return sheet([
        [grey(f"A, channel {k}", _unit(lab.activations[k]), smooth=False) for k in chosen],
        [grey("M, its mask", lab.masks.full(k)) for k in chosen],
        [*masked, laid("Score-CAM", SCENE, lab.parts()["R"])],
    ])  # fmt: skip


def _unit(values: Any) -> Any:
    return values / max(float(values.max()), 1e-12)


def fusion(lab: Lab) -> UInt8Array:
    """Every map between the picture and Fusion-CAM."""
    p = lab.parts()
    made = Explainer(lab.bundle).explain(SCENE)
    assert np.allclose(made.maps["fusion_cam"], p["F"], atol=1e-4), "these are not the maps that fusioncam makes"
    first, second, (of_d, of_r) = p["first"], p["second"], p["gains"]
    return sheet([
        [
            shown("x", SCENE, f"{made.label}, p = {made.probability:.3f}"), heat("G, Grad-CAM", p["G"]),
            heat("D, G denoised", p["D"], f"p(x D) - p(0) = {of_d:.3f}"),
            heat("R, Score-CAM", p["R"], f"p(x R) - p(0) = {of_r:.3f}"),
            heat("U, the union", p["U"], f"{first.first:.2f} D + {first.second:.2f} R"),
        ],
        [
            heat("L1 = bU U", p["L1"], f"bU = {second.first:.2f}"),
            heat("L2 = bR R", p["L2"], f"bR = {second.second:.2f}"),
            grey("sim, where they agree", p["sim"], "white: 1"), heat("F, Fusion-CAM", p["F"]),
            laid("F over x", SCENE, p["F"]),
        ],
    ])  # fmt: skip


def methods(lab: Lab) -> UInt8Array:
    """One picture by every method."""
    found = Explainer(lab.bundle, methods=GALLERY).explain(SCENE)
    tiles = [laid(method_title(m), SCENE, found.maps[m]) for m in GALLERY]
    return sheet([tiles[:5], tiles[5:]])


def styles(lab: Lab) -> UInt8Array:
    """The ways to draw a map, and a difference of two classes."""
    explainer = Explainer(lab.bundle, methods=["fusion_cam"])
    crossed, star = explainer.explain_batch([SCENE], [[6, 5]])
    between = difference(crossed, star)
    small = shown("", SCENE).picture
    signed_map = cv2.resize(between.maps["fusion_cam"], small.shape[1::-1])
    said = {"heat": "colours", "contour": "lines at 0.25, 0.5 and 0.75", "top": "20 % of the pixels"}
    tiles = [laid(f"--style {s}", SCENE, crossed.maps["fusion_cam"], note, s) for s, note in said.items()]
    note = f"orange: towards cross, blue: towards star, at most {between.largest['fusion_cam']:.2f}"
    tiles.append(Tile("-c cross --versus star", overlay_difference(small, np.asarray(signed_map, np.float32)), note))
    return sheet([tiles])


def budgets(lab: Lab) -> UInt8Array:
    """Maps of a few passes beside the exact one."""
    exact = Explainer(lab.bundle).explain(SCENE).maps["fusion_cam"]
    tiles = []
    for budget in (12, 20, "auto", "exact"):
        found = Explainer(lab.bundle, budget=budget).explain(SCENE)
        likeness = np.corrcoef(found.maps["fusion_cam"].ravel(), exact.ravel())[0, 1]
        note = f"{found.passes.run} passes, correlation {likeness:.3f}"
        tiles.append(laid(f"--budget {budget}", SCENE, found.maps["fusion_cam"], note))
    return sheet([tiles])


def sanity(lab: Lab) -> UInt8Array:
    """Maps of the trained model and of the same model with its weights shuffled."""
    randomised_bundle(lab.bundle, lab.folder / "shuffled.fcam")
    rows = []
    for bundle, what in ((lab.bundle, "trained"), (lab.folder / "shuffled.fcam", "shuffled")):
        found = Explainer(bundle).explain(SCENE, lab.c)
        rows.append(
            [laid(f"{method_title(m)}, {what}", SCENE, found.maps[m]) for m in ("fusion_cam", "grad_cam", "score_cam")]
        )
    return sheet(rows)


def curves(lab: Lab) -> str:
    """Insertion and deletion for a map, and for pixels in random order."""
    found = Explainer(lab.bundle).explain(ONE)
    fused, x = found.maps["fusion_cam"], as_input(ONE, lab.manifest.preprocessing)[1]
    noise = np.random.default_rng(0).random(fused.shape)
    ends = {"insertion": (blurred(x), x), "deletion": (x, x * 0)}
    drawn = {}
    for kind, (start, end) in ends.items():
        for name, saliency in (("Fusion-CAM", fused), ("random order", noise)):
            rank = np.argsort(np.argsort(-saliency, axis=None)).reshape(saliency.shape) / saliency.size
            steps = np.linspace(0, 1, 33)
            drawn[f"{kind}, {name}"] = [
                (float(100 * s), lab.confidence(np.where(rank < s, end, start), found.class_index)) for s in steps
            ]
    across = Axis("percent of the pixels put in, or taken out", 0, 100, (0, 25, 50, 75, 100))
    up = Axis("confidence in the class", 0, 1, (0, 0.25, 0.5, 0.75, 1))
    return chart("Insertion and deletion of one picture", across, up, drawn)


def verdict(lab: Lab) -> UInt8Array:
    """A map and its controls, with the support of each."""
    found = Explainer(lab.bundle).explain(SCENE, verify=True)
    assert found.verdict is not None
    own = found.maps["fusion_cam"]
    maps = {"map": own, **{name: control.make(own) for name, control in CONTROLS.items()}}
    support = {version: figures["support"] for version, figures in found.verdict.figures.items()}
    notes = {version: f"support {value:z.2f}" for version, value in support.items()} | {
        "map": f"support {support['map']:z.2f}: {found.verdict.name}"
    }
    names = {"map": "Fusion-CAM"}
    tiles = [laid(names.get(version, version), SCENE, m, notes[version]) for version, m in maps.items()]
    return sheet([[shown("Input", SCENE, found.title), *tiles]])


def spending(lab: Lab) -> str:
    """Plot the likeness of budgets' maps to exact ones, over some scenes."""
    scenes = [draw_scene(seed, objects=2).image for seed in range(8)]
    exact = [e.maps for e in Explainer(lab.bundle).explain_batch(scenes)]
    points: dict[str, list[tuple[float, float]]] = {"median of 8 scenes": [], "worst of 8 scenes": []}
    for budget in (10, 12, 16, 20, 28, 36, 44, 52, 60, 68):
        found = Explainer(lab.bundle, budget=budget).explain_batch(scenes)
        likeness = [
            float(np.corrcoef(e.maps["fusion_cam"].ravel(), m["fusion_cam"].ravel())[0, 1])
            for e, m in zip(found, exact, strict=True)
        ]
        points["median of 8 scenes"].append((budget, float(np.median(likeness))))
        points["worst of 8 scenes"].append((budget, min(likeness)))
    low = np.floor(100 * min(v for _, v in points["worst of 8 scenes"])) / 100
    across = Axis("passes (68 are all)", 8, 68, (8, 20, 32, 44, 56, 68))
    up = Axis("correlation with exact", low, 1, [float(v) for v in np.linspace(low, 1, 5)])
    return chart("Correlation with the exact map by passes", across, up, points)


def detections(lab: Lab) -> UInt8Array:
    """The panel of the built-in detector, the two surest detections."""
    export_model(DETECTOR, lab.folder / "detector.fcam")
    return detections_panel(Explainer(lab.folder / "detector.fcam").explain_batch([SCENE], top=2))


PICTURES: dict[str, Callable[[Lab], UInt8Array | str]] = {
    "demo.webp": demo,
    "layers.webp": layers,
    "preprocessing.webp": preprocessing,
    "evidence.webp": evidence,
    "masks.webp": masks,
    "fusion.webp": fusion,
    "methods.webp": methods,
    "styles.webp": styles,
    "budgets.webp": budgets,
    "sanity.webp": sanity,
    "verdict.webp": verdict,
    "detections.webp": detections,
    "page.webp": lambda _: page("classify", "the most probable of"),
    "page-detector.webp": lambda _: page("detect", "pixels at"),
    "curves.svg": curves,
    "spending.svg": spending,
    **DIAGRAMS,
}


def main(names: list[str]) -> None:
    """Make the pictures named, by default all of them."""
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        lab = Lab(Path(folder))
        for name in names or PICTURES:
            made = PICTURES[name](lab)
            if isinstance(made, str):
                (FOLDER / name).write_text(made, encoding="utf-8")
            else:
                cv2.imwrite(str(FOLDER / name), made[..., ::-1], [cv2.IMWRITE_WEBP_QUALITY, QUALITY])


if __name__ == "__main__":
    main(sys.argv[1:])
