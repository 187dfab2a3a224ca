"""All maps, scores and logits that an Explainer makes on the CPU."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fusioncam import Explainer, export_model, fusion_cam
from unchanged.commands import fusioncam
from unchanged.digests import Digests
from unchanged.subjects import CHUNK, THREADS, Bundle, Subjects
from unchanged.tree import lookup

BUDGETS = ("exact", "auto", 0.2, 24)
FEW = ("fusion_cam", "grad_cam", "score_cam", "union_cam", "layer_cam")  # others take more than 24 passes of their own
ALL_CLASSES = ("score_cam_probability",)  # looks at the scores of all classes, so no budget goes with it


def methods(budget: Any = "exact") -> list[str]:
    """Return every method and some fusions of other parts, as far as they take a budget."""
    if isinstance(budget, int):
        return list(FEW)
    custom = [
        fusion_cam("layer_cam", "group_cam", 20),
        fusion_cam("grad_cam_pp", "score_cam_increase", 5.5),
        "union_cam:layer_cam+score_cam",
        "union_cam:xgrad_cam+recipro_cam:30",
    ]
    return [m for m in (*lookup("every_method"), *custom) if budget == "exact" or m not in ALL_CLASSES]


def opened(bundle: Any, budget: Any = "exact", chosen: Sequence[str] | None = None, **options: Any) -> Explainer:
    """Return an Explainer of fixed chunk and threads."""
    folder = bundle.folder if isinstance(bundle, Bundle) else bundle
    return Explainer(folder, None, chosen or methods(budget), budget, chunk=CHUNK, threads=THREADS, **options)


def run(digests: Digests, subjects: Subjects) -> None:
    """Add what every bundle makes of every photo, and each option of the Explainer once."""
    for bundle in subjects.bundles.values():
        for budget in BUDGETS:
            with digests.part(f"maps/{bundle.name}/{budget}"):
                explainer = opened(bundle, budget)
                for photo in _photos(subjects, bundle, budget):
                    digests.add_explanation(f"maps/{bundle.name}/{budget}/{photo.stem}", explainer.explain(photo))
    for name, add in OPTIONS.items():
        with digests.part(f"options/{name}"):
            add(digests, f"options/{name}", subjects)


def _photos(subjects: Subjects, bundle: Bundle, budget: Any) -> Sequence[Path]:
    """Return all photos; of the slow fp16 and large bundles one per budget, each another."""
    slow = bundle.name.startswith(("squeezenet", "mobilenetv2"))
    if not slow or (budget == "exact" and bundle.precision != "fp16"):
        return subjects.photos
    at = BUDGETS.index(budget) % len(subjects.photos)
    return subjects.photos[at : at + 1]


def _classes(digests: Digests, name: str, subjects: Subjects) -> None:
    explainer, photos, calls = opened(subjects.small), [*subjects.photos, *subjects.photos][:2], []
    asked: dict[str, dict[str, Any]] = {
        "lists": {"class_index": [[3, 0, -1], [5]]},
        "one": {"class_index": 2},
        "top": {"top": 3},
        "above": {"above": 0.05},
    }
    for what, options in asked.items():
        found = explainer.explain_batch(photos, **options, progress=lambda *call: calls.append(call))
        digests.add(f"{name}/{what}/count", len(found))
        for i, explanation in enumerate(found):
            digests.add_explanation(f"{name}/{what}/{i}", explanation)
    digests.add(f"{name}/progress", calls)
    for budget in BUDGETS[1:]:
        for i, explanation in enumerate(opened(subjects.small, budget).explain_batch(photos, [[1, 4], [0, -1, 7]])):
            digests.add_explanation(f"{name}/budget {budget}/{i}", explanation)


def _smooth(digests: Digests, name: str, subjects: Subjects) -> None:
    for ways in (["flip"], ["noise"], ["flip", "noise"]):
        for budget in ("exact", 0.2):
            found = opened(subjects.small, budget, smooth=ways).explain(subjects.photos[0], 3)
            digests.add_explanation(f"{name}/{'+'.join(ways)}/{budget}", found)


def _bundles_together(digests: Digests, name: str, subjects: Subjects) -> None:
    model = Path(subjects.small.name.removesuffix("-fp32") + ".onnx")
    own = lookup("read_bundle")(subjects.small.folder).layer.name
    told = json.loads(fusioncam("inspect", str(model), "--json").stdout)["layers"]
    layers = [layer["name"] for layer in told if layer["name"] != own]
    other = Path("other-layer.fcam")
    export_model(model, other, preprocessing={"rescale": 1.0}, layer=layers[len(layers) // 2])
    for budget in ("exact", 0.2):
        explainer = opened([subjects.small.folder, other], budget)
        for i, found in enumerate(explainer.explain_batch(subjects.photos[:1], [[0, -1]])):
            digests.add_explanation(f"{name}/{budget}/{i}", found)
    smoothed = opened([subjects.small.folder, other], smooth=["flip"])
    digests.add_explanation(f"{name}/flip", smoothed.explain(subjects.photos[0]))
    digests.add(f"{name}/overlay", smoothed.overlay(subjects.photos[0]))


def _overlays(digests: Digests, name: str, subjects: Subjects) -> None:
    for bundle in subjects.bundles.values():
        if bundle.name.startswith(("cifar", "vww", "mobilenetv1")):
            explainer = opened(bundle, chosen=["grad_cam"])
            for method in ("fusion_cam", "union_cam", "score_cam", "layer_cam", "recipro_cam"):
                made = explainer.overlay(subjects.photos[0], 1, method=method, colormap="viridis", opacity=0.55)
                digests.add(f"{name}/{bundle.name}/{method}", made)


def _on_photo(digests: Digests, name: str, subjects: Subjects) -> None:
    found = opened(subjects.small).explain(subjects.photos[-1])
    for method in ("fusion_cam", "grad_cam"):
        digests.add(f"{name}/{method}", found.on_photo(method))


def _refusals(digests: Digests, name: str, subjects: Subjects) -> None:
    bundle, photo = subjects.small, subjects.photos[0]
    explainer = opened(bundle, chosen=["grad_cam"])
    calls: dict[str, Any] = {
        "method": lambda: opened(bundle, chosen=["camera"]),
        "no method": lambda: Explainer(bundle.folder, methods=[]),
        "budget": lambda: opened(bundle, "much"),
        "small budget": lambda: opened(bundle, 2, ["fusion_cam"]).explain(photo),
        "budget of all classes": lambda: opened(bundle, "auto", list(ALL_CLASSES)),
        "chunk": lambda: Explainer(bundle.folder, chunk=0),
        "threads": lambda: Explainer(bundle.folder, threads=-1),
        "smooth": lambda: opened(bundle, smooth=["blur"]),
        "provider": lambda: Explainer(bundle.folder, ["tpu"]),
        "no bundle": lambda: Explainer("nowhere.fcam"),
        "class": lambda: explainer.explain(photo, 10),
        "class text": lambda: explainer.explain(photo, "cat"),  # type: ignore[arg-type]
        "no picture": lambda: explainer.explain("nowhere.png"),
        "not a picture": lambda: explainer.explain(bundle.folder / "manifest.json"),
        "entries": lambda: explainer.explain_batch([photo], [1, 2]),
        "top and above": lambda: explainer.explain_batch([photo], top=1, above=0.5),
        "colormap": lambda: explainer.overlay(photo, colormap="grey"),
        "opacity": lambda: explainer.overlay(photo, opacity=2),
    }
    for what, call in calls.items():
        digests.add_refusal(f"{name}/{what}", call)


OPTIONS = {
    "classes": _classes,
    "smooth": _smooth,
    "bundles": _bundles_together,
    "overlay": _overlays,
    "on_photo": _on_photo,
    "refusals": _refusals,
}
