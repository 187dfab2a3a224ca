"""Explanations made of the maps of a request, which say where they come from."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fusioncam.bundle_flags import bundle_flags
from fusioncam.manifest import Manifest, recorded_digest
from fusioncam.runtime.budget import Auto, checked_budget
from fusioncam.runtime.engine.recipe import TargetMaps, ViewResult
from fusioncam.runtime.engine.request import ExplainRequest
from fusioncam.runtime.explanation import Explanation, Passes
from fusioncam.runtime.probes.verdict import Verdict
from fusioncam.runtime.targets.resolved import ResolvedTarget


class Results:
    """Makes the explanations of one bundle, or of several of one model.

    Args:
        manifests: The manifest of each bundle.
        folders: The folder of each bundle; none where the bundles have none.
        smooth: Further views of every picture, whose maps are averaged.
    """

    def __init__(self, manifests: Sequence[Manifest], folders: Sequence[Path], smooth: Sequence[str]) -> None:
        self._manifest, self._flags, self._smooth = manifests[0], bundle_flags(manifests), tuple(smooth)
        self._model = _joined([folder.resolve().name for folder in folders])
        self._digest = _joined([digest for folder in folders if (digest := recorded_digest(folder))])
        self._layer = None if any(m.levels for m in manifests) else _joined([m.layer.name for m in manifests])

    def explanations(
        self,
        request: ExplainRequest,
        own: ViewResult,
        made: Sequence[TargetMaps],
        passes: Passes,
        verdicts: Sequence[Verdict | None],
        providers: tuple[str, ...],
    ) -> list[Explanation]:
        """Return the explanation of each target of a picture.

        Args:
            request: The request, with the preprocessed picture.
            own: The result of the picture itself, with the layers of all views.
            made: The maps of each target, over all views.
            passes: The passes of all views.
            verdicts: The verdict on each target, if one was asked for.
            providers: Short names of the providers that ran.
        """
        manifest, logits = self._manifest, own.logits
        budget = checked_budget(request.budget)
        dark = ["dark_picture"] * request.dark
        of_targets = own.layers or [() for _ in own.targets]
        exact = ["nothing_saved"] * (isinstance(budget, Auto) and passes.nothing_saved)
        return [
            Explanation(
                # None of them where a condition ended the explanation.
                maps={m: of_target.maps[m].astype(np.float32) for m in request.methods if m in of_target.maps},
                class_index=target.class_index,
                label=target.label,
                probability=target.confidence or 0.0,
                flags=(*of_target.flags, *exact, *dark, *self._flags),
                passes=passes,
                timing=dict(request.clock.laps),
                photo_size=None if request.photo is None else request.photo.size,
                preprocessing=manifest.preprocessing,
                logits=None if logits is None else logits.copy(),
                verdict=verdict,
                image=None if request.photo is None else request.photo.name,
                model=self._model,
                digest=self._digest,
                layer=self._layer or _joined(layers),
                budget=str(budget),
                smooth=self._smooth,
                providers=providers,
                photo=request.photo,
                target=target,
            )
            for target, of_target, verdict, layers in zip(own.targets, made, verdicts, of_targets, strict=True)
        ]

    def without_maps(
        self, request: ExplainRequest, targets: list[ResolvedTarget], providers: tuple[str, ...]
    ) -> list[Explanation]:
        """Return explanations without a map of targets that have their scores: no gradient was taken."""
        made = [TargetMaps(flags=["nothing_detected"] * (target.kind == "nothing")) for target in targets]
        passes = Passes(0, self._manifest.layer.shape[0])
        own = ViewResult(targets, made, None, passes)
        return self.explanations(request, own, made, passes, [None] * len(targets), providers)


def _joined(names: Sequence[str]) -> str | None:
    return " + ".join(names) or None
