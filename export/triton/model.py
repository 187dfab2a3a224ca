"""The Python model that explains pictures with the models NAME_explain and NAME_score of the same repository.

`fusioncam triton` copies this file into a Triton model repository; no module of the package imports it. The Python of
Triton's backend needs the package, see docs/deploy/triton.md.
"""

import asyncio
import json
import time
from collections import deque
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils  # type: ignore[import-not-found]

from fusioncam.errors import DeadlineTooShortError, FusionCamError, ImageError, UsageError
from fusioncam.forms import ACTIVATIONS, CONFIDENCES, GRADIENTS, SCORES, of_level
from fusioncam.kernels.reference import probabilities
from fusioncam.manifest import read_manifest
from fusioncam.runtime.engine import ExplainRequest, PassRequest, Pipeline
from fusioncam.runtime.engine.checks import refuse_nan
from fusioncam.runtime.engine.host.engine import HostEngine
from fusioncam.runtime.engine.host.scorer import Scorer
from fusioncam.runtime.engine.pace import Pace
from fusioncam.runtime.explanation import Explanation
from fusioncam.runtime.methods import checked_for
from fusioncam.runtime.service.protocol.request_parser import default_method, parse_request, prepared_pictures
from fusioncam.runtime.targets.given import given_targets
from fusioncam.runtime.targets.resolved import ResolvedTarget
from fusioncam.runtime.targets.sight import Outputs, Sight
from fusioncam.runtime.targets.tasks import checked_target, resolve

PICTURES, CHUNKS = 2, 2  # of a request, and of a picture, that are in flight: bounds the memory
# Outputs that are no maps.
FIGURES = (
    *("logits", "probabilities", SCORES, CONFIDENCES, "explained_region", "explained_box"),
    *("class_index", "passes", "flags"),
)
TYPES = {"TYPE_FP32": np.float32, "TYPE_FP16": np.float16}


class CancelledError(Exception):
    """The client has cancelled its request."""


class RepositoryModel:
    """Another model of the repository, asked for some of its outputs."""

    def __init__(self, name: str, version: int, outputs: Sequence[str]) -> None:
        self._name, self._version, self._outputs = name, version, list(outputs)

    def send(self, feeds: dict[str, Any]) -> Any:
        """Send a request and return what to await. The answer comes to the host, even from a GPU."""
        request = pb_utils.InferenceRequest(
            model_name=self._name,
            model_version=self._version,
            requested_output_names=self._outputs,
            inputs=[pb_utils.Tensor(name, np.ascontiguousarray(array)) for name, array in feeds.items()],
            preferred_memory=pb_utils.PreferredMemory(pb_utils.TRITONSERVER_MEMORY_CPU, 0),
        )
        return request.async_exec()

    def read(self, response: Any) -> dict[str, Any]:
        """Return the outputs of a response by name."""
        if response.has_error():
            raise FusionCamError(f"{self._name} cannot be run: {response.error().message()}; see Triton's log")
        return {n: pb_utils.get_output_tensor_by_name(response, n).as_numpy() for n in self._outputs}


class FinishedSession:
    """A stand-in for the session of the explain graph, which another model has run already."""

    def __init__(self, results: dict[str, Any]) -> None:
        self._results = results

    def run(self, outputs: Sequence[str], feeds: dict[str, Any], options: object = None) -> list[Any]:
        """Return the results of these outputs."""
        return [self._results[name] for name in outputs]


class TritonPythonModel:
    """The class that Triton loads, once per instance."""

    def initialize(self, args: dict[str, str]) -> None:
        """Read the configuration and the bundle's manifest. The other models may not be loaded yet."""
        config = json.loads(args["model_config"])
        name, version = args["model_name"], int(args["model_version"])
        folder = Path(args["model_repository"], args["model_version"])
        self.manifest = read_manifest(folder / "manifest.json")
        self._outputs = [o["name"] for o in config["output"]]
        self.methods = [o for o in self._outputs if o not in FIGURES]
        parameters = {name: value["string_value"] for name, value in config["parameters"].items()}
        self._chunk, self._dtype = int(parameters["chunk"]), TYPES[parameters["pictures"]]
        self._pace = Pace(self._chunk, padded=True)  # of all requests: each has an engine of its own
        self._shape, form = self.manifest.preprocessing.shape, self.manifest.form
        scored = [SCORES, CONFIDENCES] if form.scored else [form.output.name]
        names, levels = (ACTIVATIONS, *[GRADIENTS] * self.manifest.gradient), range(len(self.manifest.layers))
        evidence = [of_level(name, level) for name in names for level in levels]
        self._explain = RepositoryModel(f"{name}_explain", version, [*scored, *evidence])
        self._read = RepositoryModel(f"{name}_explain", version, [form.output.name])  # without the gradient's target
        self._score = RepositoryModel(f"{name}_score", version, scored)
        self._exact = RepositoryModel(f"{name}_explain", version, scored)  # for exact passes, see `PassRequest`

    async def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Return a response for each request."""
        return list(await asyncio.gather(*map(self._respond, requests)))

    async def _respond(self, request: Any) -> Any:
        try:
            requests = self._explain_requests(request)
            explanations: list[Explanation] = []
            for start in range(0, len(requests), PICTURES):
                async with asyncio.TaskGroup() as group:  # where one fails the others are cancelled
                    tasks = [group.create_task(self._explanation(r, request)) for r in requests[start:][:PICTURES]]
                explanations += [task.result() for task in tasks]
            return self._response(explanations, set(request.requested_output_names()))
        except ExceptionGroup as group:
            return _refusal(group.exceptions[0])
        except Exception as error:
            return _refusal(error)

    def _explain_requests(self, request: Any) -> list[ExplainRequest]:
        """Return a request per picture; raises ImageError or UsageError where Triton's request makes no sense."""
        inputs = {t.name(): t.as_numpy() for t in request.inputs()}
        texts = {n: [_text(v) for v in inputs[n].ravel()] for n in ("method", "budget") if n in inputs}
        flat = {n: values.ravel() for n, values in inputs.items() if n in ("class_index", "image_bytes")}
        tensors = {t.name: inputs[t.name] for t in self.manifest.form.asked if t.name in inputs and t.name not in flat}
        parsed = parse_request(flat | texts, json.loads(request.parameters() or "{}"))
        pictures = list(prepared_pictures(inputs | flat, self.manifest.preprocessing))
        if not pictures:
            raise ImageError("there is no picture in the request: give one or more")
        classes = parsed.classes(len(pictures), self.manifest.classes)
        named = self._methods([m.strip() for m in parsed.methods if m.strip()], request.requested_output_names())
        methods = checked_for(named, [self.manifest], parsed.budget) if named else ()
        targets = given_targets(self.manifest, classes, tensors, len(pictures))
        return [ExplainRequest(x, [t], methods, parsed.budget) for x, t in zip(pictures, targets, strict=True)]

    def _methods(self, methods: list[str], outputs: Iterable[str]) -> list[str]:
        """Return the methods that are named, and those among the requested outputs, unless all are requested."""
        for method in methods:
            if method not in self.methods:
                known = ", ".join(self.methods)
                raise UsageError(f"there is no output or method {method[:80]!r}; the methods are {known}")
        requested = set(outputs)
        if requested < set(self._outputs):
            return [*methods, *(m for m in self.methods if m in requested)]
        return methods or [default_method(self.methods)]

    async def _explanation(self, explain: ExplainRequest, request: Any) -> Explanation:
        image = {"image": np.asarray(explain.x)[None]}
        target = await self._target(explain, image)
        feeds = image | {name: tensor[None] for name, tensor in target.tensors.items()}
        evidence = FinishedSession(self._explain.read(await self._explain.send(feeds)))
        # Of the scorer only the size of its chunks is of use: they are sent by `_pass`, several at a time.
        scorer = Scorer(evidence, self._shape, self._chunk, pad=True)
        engine = HostEngine(self.manifest, evidence, scorer, pace=self._pace)
        task = Pipeline([self.manifest], [engine]).task(replace(explain, targets=[target]))
        try:
            while True:
                await self._pass(next(task), request)
        except StopIteration as done:
            explanations: list[Explanation] = done.value
            return explanations[0]
        finally:
            task.close()

    async def _target(self, explain: ExplainRequest, image: dict[str, Any]) -> ResolvedTarget:
        """Return the target of a request, resolved for its picture: where a class wins, or the detection at a box."""
        form, found = self.manifest.form, {}
        if form.kind in ("maps", "boxes"):
            found = self._read.read(await self._read.send({**image, **form.placeholders(1)}))
        read = lambda _: Outputs(found[form.output.name][0])  # noqa: E731 - of this picture: no reference is a picture
        assert not callable(explain.targets)
        (asked,) = explain.targets
        sight = Sight(self.manifest, image["image"][0], None, read)
        return resolve(checked_target(self.manifest, asked), sight)

    async def _pass(self, passes: PassRequest, request: Any) -> None:
        """Send chunks as they are made, up to `CHUNKS` at a time, for NAME_score to batch."""
        begun = time.perf_counter()
        model, dtype = (self._exact, np.float32) if passes.exact else (self._score, self._dtype)
        target = passes.readout.tensors
        sent: deque[tuple[int, Any]] = deque()
        for start in range(0, passes.count, self._chunk):
            rows = np.empty((min(self._chunk, passes.count - start), *self._shape), dtype)
            with np.errstate(over="ignore"):  # numbers beyond float16 show in the logits
                passes.fill(start, start + len(rows), rows)
            if request.is_cancelled():
                raise CancelledError
            feeds: dict[str, Any] = {"image": rows, **target}
            if passes.exact:  # the explain graph has a target for each row
                one = target or self.manifest.form.placeholders(1)
                feeds |= {name: np.repeat(tensor, len(rows), axis=0) for name, tensor in one.items()}
            sent.append((start, model.send(feeds)))
            if len(sent) == CHUNKS:
                await self._take(passes, model, *sent.popleft())
        while sent:
            await self._take(passes, model, *sent.popleft())
        passes.clock.add("masked_passes", time.perf_counter() - begun)
        passes.clock.resume()

    async def _take(self, passes: PassRequest, model: RepositoryModel, start: int, response: Any) -> None:
        found = model.read(await response)
        outputs = [found[name] for name in passes.readout.outputs]
        refuse_nan(outputs[0], passes.readout.outputs[0])
        passes.take(start, passes.readout.answers(outputs))

    def _response(self, explanations: Sequence[Explanation], outputs: Collection[str]) -> Any:
        arrays = {m: np.stack([e.maps[m] for e in explanations]).astype(np.float32) for m in explanations[0].maps} | {
            "class_index": np.array([e.class_index for e in explanations], np.int64),
            "passes": np.array([e.passes.run for e in explanations], np.int64),
            "flags": np.array([",".join(e.flags).encode() for e in explanations], object),
            **(self._scores if self.manifest.form.scored else self._logits)(explanations),
        }
        return pb_utils.InferenceResponse([pb_utils.Tensor(n, a) for n, a in arrays.items() if n in outputs])

    def _logits(self, explanations: Sequence[Explanation]) -> dict[str, Any]:
        logits = np.stack([np.asarray(e.logits, np.float32) for e in explanations])
        chances = probabilities(logits, self.manifest.ending)
        return {"logits": logits, "probabilities": chances.astype(np.float32)}

    def _scores(self, explanations: Sequence[Explanation]) -> dict[str, Any]:
        tensors = [e.target.tensors for e in explanations if e.target is not None]
        places = [name for name in ("region", "box") if tensors and name in tensors[0]]
        return {
            SCORES: np.array([e.score for e in explanations], np.float32),
            CONFIDENCES: np.array([e.probability for e in explanations], np.float32),
            **{f"explained_{name}": np.stack([of[name] for of in tensors]) for name in places},
        }


def _text(value: bytes | str) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def _refusal(error: Exception) -> Any:
    """Return the response for an error, with the code of whose fault it is."""
    codes = pb_utils.TritonError
    if isinstance(error, CancelledError):
        return pb_utils.InferenceResponse(error=codes("the request was cancelled", codes.CANCELLED))
    if isinstance(error, FusionCamError):
        code = codes.INVALID_ARG if isinstance(error, UsageError | ImageError) else codes.INTERNAL
        if isinstance(error, DeadlineTooShortError):  # of the machine as busy as it is now
            code = codes.UNAVAILABLE
        return pb_utils.InferenceResponse(error=codes(str(error), code))
    said = f"unexpected {type(error).__name__}: {error}; this is a bug, please report it"
    return pb_utils.InferenceResponse(error=codes(said, codes.INTERNAL))
