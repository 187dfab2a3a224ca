"""The pipeline: requests become tasks, and tasks become explanations, on the engines of one bundle or several."""

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from fusioncam.errors import UsageError
from fusioncam.input_values import InputValues
from fusioncam.kernels import reference
from fusioncam.kernels.arrays import Array, UInt8Array
from fusioncam.manifest import Manifest
from fusioncam.runtime.arguments import of_one_model
from fusioncam.runtime.budget import SHORTEST, Budget, checked_budget, deadline
from fusioncam.runtime.engine.bundles import BundleFolder
from fusioncam.runtime.engine.opening import EngineSelector, open_engines
from fusioncam.runtime.engine.options import EngineOptions
from fusioncam.runtime.engine.pace import EXPLAIN, Pace, end_of, in_time
from fusioncam.runtime.engine.progress import after, part_of
from fusioncam.runtime.engine.protocols import Engine
from fusioncam.runtime.engine.recipe import TargetMaps, ViewResult, layers_of, mean, take_steps
from fusioncam.runtime.engine.request import ExplainRequest, Sketch, inputs_of, prepared, reserved_passes
from fusioncam.runtime.engine.results import Results
from fusioncam.runtime.engine.scheduler import IN_FLIGHT, Result, Task
from fusioncam.runtime.engine.smoothing import View, checked_smoothing, view_count, views
from fusioncam.runtime.engine.target_resolver import TargetResolver, is_listing
from fusioncam.runtime.engine.verification import Verification
from fusioncam.runtime.engine.viewing import NotExplainedError, explain_view
from fusioncam.runtime.explanation import Explanation, Passes
from fusioncam.runtime.methods import checked_for
from fusioncam.runtime.photos.model_input import ImageLike, unpreprocess
from fusioncam.runtime.picture_inputs import PictureInputs, drawn_inputs, read_inputs
from fusioncam.runtime.prepared import prepare
from fusioncam.runtime.probes.verdict import Verdict
from fusioncam.runtime.targets.classes import checked_number
from fusioncam.runtime.targets.detections import Anchors
from fusioncam.runtime.targets.resolved import ResolvedTarget, trial
from fusioncam.runtime.targets.tasks import Checked, TargetScore, checked_target

REHEARSALS = 4  # the first one warms the sessions up


class Pipeline:
    """Explains pictures on the engines of one bundle, or of several whose maps are averaged.

    One Pipeline may be used from several threads.

    Args:
        manifests: The manifest of each bundle.
        engines: The engine of each bundle, or how it is selected.
        smooth: Further views of every picture, whose maps are averaged; see `Explainer`.
        folders: The folder of each bundle, which results name; none for bundles that have none.
        inputs: Further inputs of pictures that come without, see `given_rows`.

    Attributes:
        manifest: The first manifest; the others agree with it in classes and preprocessing.
        manifests: All manifests.
    """

    def __init__(
        self,
        manifests: Sequence[Manifest],
        engines: Sequence[Engine | EngineSelector],
        smooth: Sequence[str] = (),
        folders: Sequence[Path] = (),
        inputs: Mapping[str, Array] | None = None,
    ) -> None:
        self.manifest, self.manifests = of_one_model(manifests), manifests
        self._selectors = [e if isinstance(e, EngineSelector) else EngineSelector(e) for e in engines]
        self._smooth = checked_smoothing(smooth)
        if "flip" in self._smooth and self.manifest.preprocessing.kind == "signals":
            raise UsageError("a signal is not mirrored, as its samples have an order: leave out the view `flip`")
        self._resolver = TargetResolver(self.manifest, self.preferred)
        self._results, self._usual_inputs = Results(manifests, folders, self._smooth), inputs

    @classmethod
    def open(
        cls,
        bundles: Sequence[BundleFolder],
        options: EngineOptions | None = None,
        smooth: Sequence[str] = (),
        folders: Sequence[Path] | None = None,
    ) -> "Pipeline":
        """Open the engines of bundles, as `read_bundles` gives them.

        Args:
            bundles: The bundles.
            options: Options of the engines.
            smooth: Further views of every picture.
            folders: The folders that results name; by default those of the bundles.

        Raises:
            ProviderError, DeviceError, BundleError, UsageError: As of `open_engines`.
        """
        options = options or EngineOptions()
        engines = [open_engines(*b, options) for b in bundles]
        named = [b.folder for b in bundles] if folders is None else folders
        return cls([b.manifest for b in bundles], engines, smooth, named, options.inputs)

    @property
    def preferred(self) -> Engine:
        """Return the engine that serves, unless methods need the fallback."""
        return self._selectors[0].preferred

    @property
    def chunk(self) -> int:
        """Return the number of masked pictures per run."""
        return self.preferred.chunk

    @property
    def trial(self) -> ResolvedTarget:
        """Return a target to try the model with, of any picture."""
        return trial(self.manifest.form)

    def engine_for(self, methods: Sequence[str], verify: bool = False) -> Engine:
        """Return the engine whose scheduler runs tasks that make these methods, with verdicts on them or without."""
        return self._selectors[0].engine_for(methods, verify)

    def check(self, methods: Sequence[str], budget: Budget) -> tuple[tuple[str, ...], Budget]:
        """Return methods, each once, and a budget as a request takes them.

        Raises:
            UsageError: A method or the budget is unavailable for these bundles.
        """
        budget = checked_budget(budget)
        return checked_for(methods, self.manifests, budget) if methods else (), budget

    def check_class(self, class_index: Any) -> int:
        """Return a class, by number or name, as an index, -1 for the top one; raise UsageError where there is none."""
        return checked_number(self.manifest, class_index)

    def check_target(self, target: Any) -> Checked:
        """Return a target as a request takes it, see `checked_target`; raise UsageError where it does not fit."""
        return checked_target(self.manifest, target)

    def targets(self, image: ImageLike, inputs: InputValues | None = None) -> list[TargetScore]:
        """Return the targets of a picture for which nobody names one, see `Explainer.targets`."""
        picture = prepare(image, self.manifest.preprocessing)
        return self._resolver.defaults(picture, self.inputs(inputs))

    def anchors(self, image: ImageLike, inputs: InputValues | None = None) -> Anchors:
        """Return what a detector makes of a picture, see `Explainer.detections`."""
        return self._resolver.anchors(prepare(image, self.manifest.preprocessing), self.inputs(inputs))

    def inputs(self, values: InputValues | PictureInputs | None = None) -> PictureInputs:
        """Return the further inputs of a picture, those of all pictures where it has none; see `read_inputs`."""
        return read_inputs(self.manifest, values, self._usual_inputs)

    def run(
        self, tasks: Iterable[Task[Result]], methods: Sequence[str], verify: bool = False, most: int = IN_FLIGHT
    ) -> Iterator[Result]:
        """Run tasks of `task` that make these methods, so many together; see `Scheduler.run`."""
        return self.engine_for(methods, verify).scheduler(most).run(tasks)

    def task(self, request: ExplainRequest) -> Task[list[Explanation]]:
        """Explain the targets of one picture, as a task. A map is the mean over all views of the picture and bundles.

        Returns:
            One explanation per target.

        Raises:
            ImageError: The picture cannot be read or is of another shape, type or content.
            UsageError: There is no such class or method.
            FusionCamError: The model cannot be run, or gives NaN or infinity.
        """
        clock = request.clock
        clock.resume()  # it was made with the request, which may have waited
        ready = prepare(request.x, self.manifest.preprocessing, request.keep_photo)
        inputs = self.inputs(request.inputs)
        clock.lap("preprocess")
        request = replace(request, x=ready.x, photo=ready.photo, dark=ready.dark, inputs=inputs)
        targets = self._resolver.resolved(request)
        if is_listing(request, self.manifest) or not targets or targets[0].kind == "nothing":
            return self._results.without_maps(request, targets, self.preferred.providers)
        request = replace(request, targets=targets)
        try:
            results = yield from self._views(request)
        except NotExplainedError as end:
            own = end.result
            return self._explanations(request, own, own.made, own.passes, [None] * len(own.made))
        begun = clock.now()
        made = [mean(of_views) for of_views in zip(*(result.made for result in results), strict=True)]
        passes = Passes.of_all([result.passes for result in results])
        verdicts: Sequence[Verdict | None] = [None] * len(made)
        if request.verify:
            verification = self._verification(request, results[0], passes.run)
            verdicts = yield from verification.run(made)
            passes = passes._replace(run=passes.run + verification.passes)
        clock.lap("fusion")
        own = results[0]._replace(layers=layers_of(results))
        explanations = self._explanations(request, own, made, passes, verdicts)
        pace = self.engine_for(request.methods, request.verify).pace
        pace.took(_last_work(request), clock.now() - begun)
        if in_time(pace, request, _last_work(request)):
            return explanations
        return [replace(e, flags=(*e.flags, "late")) for e in explanations]

    def overlay(self, request: ExplainRequest, colors: UInt8Array, opacity: float) -> UInt8Array:
        """Return the map of one method laid over what the model sees; on a GPU nothing else leaves it.

        Args:
            request: A preprocessed picture, one target, one method.
            colors: A colour table, see `color_table`.
            opacity: In [0, 1].

        Raises:
            FusionCamError: As for `task`.
        """
        (method,) = request.methods
        x = np.asarray(request.x)
        seen = unpreprocess(x, self.manifest.preprocessing)
        if self.manifest.preprocessing.kind == "signals":
            raise UsageError("a signal is no picture to lay a map on: draw it with explain(...).overlay()")

        request = replace(request, inputs=self.inputs(request.inputs))
        request = replace(request, targets=self._resolver.resolved(request))

        def task() -> Task[UInt8Array]:
            if len(self._selectors) > 1 or self._smooth or self.manifest.levels:
                (explanation,) = yield from self.task(request)
                return reference.overlay(seen, explanation.maps[method], colors, opacity)
            with self.engine_for([method]).forward(request) as forward:
                for _, _, steps in forward.levels:  # the only one
                    maps, _ = yield from take_steps(steps, (method,))
                    picture = steps.overlay(maps[method], seen, colors, opacity)[0]
            return picture

        (picture,) = self.run([task()], [method])
        return picture

    def rehearse(self, methods: Sequence[str]) -> None:
        """Explain a picture of noise in few passes: then sessions are warm, their pace is known, and the least time."""
        x = np.random.default_rng(0).standard_normal(self.manifest.preprocessing.shape).astype(np.float32)
        for _ in range(REHEARSALS):
            budget, inputs = deadline(SHORTEST), drawn_inputs(self.manifest)
            request = ExplainRequest(x, [self.trial], methods, budget, inputs=inputs)
            list(self.run([self._views(request)], methods))
            # Or the first busy moment would count as the least that any explanation takes.
            self.engine_for(methods).pace.least(_last_work(request), request.clock.elapsed - request.clock.spare)

    def _views(self, request: ExplainRequest) -> Task[list[ViewResult]]:
        """Return the result of every view of the picture, by every bundle."""
        first, *others = (selector.engine_for(request.methods, request.verify) for selector in self._selectors)
        later = reserved_passes(request)
        results: list[ViewResult] = []
        count = len(self._selectors) * view_count(self._smooth)
        end = end_of(request) - _seconds_after(first.pace, request)

        def part(view: View) -> ExplainRequest:
            """Return the request for the next view, which gets its share of the time that is left."""
            now, done = request.clock.now(), len(results)
            until = now + (end - now) / (count - done)
            show = None if request.progress_maps is None else partial(self._show, request, [*results], view)
            targets = self._resolver.seen_in(view, prepared(request)[1], inputs_of(request))
            progress = part_of(request.progress, done, count, later)
            return replace(request, targets=targets, progress=progress, until=until, sketched=show)

        for view in views(np.asarray(request.x), self._smooth):
            results.append((yield from explain_view(first, view, part(view))))
            # The picture's own top class goes for all views, as a condition does; a verdict is on the map of all.
            request = replace(request, targets=results[0].targets, verify=False, condition=None)
            for engine in others:  # whose sessions are not those of the scheduler that runs this task
                results += engine.scheduler().run([explain_view(engine, view, part(view))])
        return results

    def _show(
        self,
        request: ExplainRequest,
        earlier: Sequence[ViewResult],
        view: View,
        sketch: Sketch,
    ) -> None:
        """Show the maps of a view so far, each the mean over earlier views and this one."""
        assert request.progress_maps is not None
        made = []
        for n, maps in enumerate(sketch.maps):
            others = [TargetMaps({m: result.made[n].maps[m] for m in maps}) for result in earlier]
            made.append(mean([*others, TargetMaps({m: view.back(array) for m, array in maps.items()})]))
        own = ViewResult(view.targets(sketch.targets), made, sketch.logits, sketch.passes)
        passes = Passes.of_all([*(result.passes for result in earlier), sketch.passes])
        asked = replace(request, methods=tuple(sketch.maps[0]))
        explanations = self._explanations(asked, own, made, passes, [None] * len(made))
        request.progress_maps([replace(e, flags=(*e.flags, "preliminary")) for e in explanations])

    def _verification(self, request: ExplainRequest, own: ViewResult, done: int) -> Verification:
        """Return the verification of the maps of a picture, after so many passes."""
        engine = self.engine_for(request.methods, verify=True)
        request = replace(request, targets=own.targets, progress=after(request.progress, done))
        return Verification(engine, self.manifest, request, own)

    def _explanations(
        self,
        request: ExplainRequest,
        own: ViewResult,
        made: Sequence[TargetMaps],
        passes: Passes,
        verdicts: Sequence[Verdict | None],
    ) -> list[Explanation]:
        """Return the explanation of each target, see `Results`."""
        providers = self.engine_for(request.methods, request.verify).providers
        return self._results.explanations(request, own, made, passes, verdicts, providers)


def _last_work(request: ExplainRequest) -> Hashable:
    """Return the name of the work that comes after all views, by what its seconds depend on."""
    return "after the views", tuple(request.methods), len(prepared(request)[1]), request.verify


def _seconds_after(pace: Pace, request: ExplainRequest) -> float:
    """Return the seconds that the work after all views hardly ever takes longer than."""
    if known := pace.cost(_last_work(request)):
        return known.high
    passes, explain = reserved_passes(request), pace.cost(EXPLAIN)
    # A verdict also takes the gradient of the mirrored picture, and that of the picture where no map has it.
    mirrored = 2 * len(prepared(request)[1]) if passes else 0
    return pace.seconds(passes) + (mirrored * explain.high if explain else 0)
