"""Explains pictures with the models NAME_explain and NAME_score of the same repository, by fusioncam's arithmetic.

`fusioncam triton` copies this file into a Triton model repository; nothing of the package imports it. It needs the
package in the Python of Triton's backend, see docs/deploy/triton.md.
"""

import asyncio
import json
import time
from collections import deque
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import triton_python_backend_utils as pb_utils  # type: ignore[import-not-found]

from fusioncam.errors import FusionCamError, ImageError, UsageError
from fusioncam.kernels.arrays import Float32Array
from fusioncam.kernels.reference import probabilities
from fusioncam.manifest import read_manifest
from fusioncam.runtime.budget import Budget
from fusioncam.runtime.engine import ExplainRequest, PassRequest, Pipeline, Task
from fusioncam.runtime.engine.checks import refuse_nan
from fusioncam.runtime.engine.host.engine import PARTS, HostEngine
from fusioncam.runtime.engine.host.scorer import Scorer
from fusioncam.runtime.explanation import Explanation
from fusioncam.runtime.methods import checked_for
from fusioncam.runtime.service.protocol.request_parser import default_method, parse_request, prepared_pictures

PICTURES, CHUNKS = 2, 2  # of a request, and of a picture, that are under way at a time: bounds the memory
FIGURES = ("logits", "probabilities", "class_index", "passes", "flags")  # outputs that are no maps
TYPES = {"TYPE_FP32": np.float32, "TYPE_FP16": np.float16}


class Asked(NamedTuple):
    """What a request wants of each of its pictures, (3, H, W) preprocessed."""

    pictures: list[Float32Array]
    classes: list[int]
    methods: tuple[str, ...]
    budget: Budget


class CancelledError(Exception):
    """Whoever asked does not wait any more."""


class Part:
    """A model of the repository that is asked for some of its outputs."""

    def __init__(self, name: str, version: int, outputs: Sequence[str]) -> None:
        self._name, self._version, self._outputs = name, version, list(outputs)

    def send(self, feeds: dict[str, Any]) -> Any:
        """A request on its way, to be awaited. The answer shall come to the host, even from a GPU."""
        request = pb_utils.InferenceRequest(
            model_name=self._name,
            model_version=self._version,
            requested_output_names=self._outputs,
            inputs=[pb_utils.Tensor(name, np.ascontiguousarray(array)) for name, array in feeds.items()],
            preferred_memory=pb_utils.PreferredMemory(pb_utils.TRITONSERVER_MEMORY_CPU, 0),
        )
        return request.async_exec()

    def read(self, response: Any) -> dict[str, Any]:
        """The outputs that came back."""
        if response.has_error():
            raise FusionCamError(f"{self._name} cannot be run: {response.error().message()}; see Triton's log")
        return {n: pb_utils.get_output_tensor_by_name(response, n).as_numpy() for n in self._outputs}


class Answered:
    """In the place of an onnxruntime session: it was run already."""

    def __init__(self, found: dict[str, Any]) -> None:
        self._found = found

    def run(self, outputs: Sequence[str], feeds: dict[str, Any]) -> list[Any]:
        """What it gave."""
        return [self._found[name] for name in outputs]


class TritonPythonModel:
    """What Triton loads, one per instance."""

    def initialize(self, args: dict[str, str]) -> None:
        """Read what the bundle's manifest says. The other models may not be there yet."""
        config = json.loads(args["model_config"])
        name, version = args["model_name"], int(args["model_version"])
        folder = Path(args["model_repository"], args["model_version"])
        self.manifest = read_manifest(folder / "manifest.json")
        self._outputs = [o["name"] for o in config["output"]]
        self.methods = [o for o in self._outputs if o not in FIGURES]
        parameters = {name: value["string_value"] for name, value in config["parameters"].items()}
        self._chunk, self._dtype = int(parameters["chunk"]), TYPES[parameters["pictures"]]
        self._shape = (3, *self.manifest.preprocessing.size)
        self._explain = Part(f"{name}_explain", version, PARTS if self.manifest.gradient else PARTS[:2])
        self._score = Part(f"{name}_score", version, ["logits"])

    async def execute(self, requests: Sequence[Any]) -> list[Any]:
        """A response for each request."""
        return list(await asyncio.gather(*map(self._respond, requests)))

    async def _respond(self, request: Any) -> Any:
        try:
            asked = self._asked(request)
            found: list[Explanation] = []
            for start in range(0, len(asked.pictures), PICTURES):
                some = range(start, min(start + PICTURES, len(asked.pictures)))
                async with asyncio.TaskGroup() as group:  # where one fails the others are given up
                    tasks = [group.create_task(self._explained(asked, i, request)) for i in some]
                found += [task.result() for task in tasks]
            return self._response(asked, found, set(request.requested_output_names()))
        except ExceptionGroup as group:
            return _refusal(group.exceptions[0])
        except Exception as error:
            return _refusal(error)

    def _asked(self, request: Any) -> Asked:
        """Return what a request asks for; raises ImageError or UsageError where it makes no sense."""
        inputs = {t.name(): t.as_numpy() for t in request.inputs()}
        texts = {n: [_text(v) for v in inputs[n].ravel()] for n in ("method", "budget") if n in inputs}
        flat = {n: values.ravel() for n, values in inputs.items() if n in ("class_index", "image_bytes")}
        parsed = parse_request(flat | texts, json.loads(request.parameters() or "{}"))
        pictures = list(prepared_pictures(inputs | flat, self.manifest.preprocessing))
        if not pictures:
            raise ImageError("there is no picture in the request: give one or more")
        classes = parsed.classes(len(pictures), self.manifest.classes)
        named = self._methods([m.strip() for m in parsed.methods if m.strip()], request.requested_output_names())
        methods = checked_for(named, [self.manifest], parsed.budget) if named else ()
        return Asked(pictures, classes, methods, parsed.budget)

    def _methods(self, methods: list[str], outputs: Iterable[str]) -> list[str]:
        """Return the methods that are named, and those among the outputs, unless all of them are asked for."""
        for method in methods:
            if method not in self.methods:
                known = ", ".join(self.methods)
                raise UsageError(f"there is no output or method {method[:80]!r}; the methods are {known}")
        wanted = set(outputs)
        if wanted < set(self._outputs):
            return [*methods, *(m for m in self.methods if m in wanted)]
        return methods or [default_method(self.methods)]

    async def _explained(self, asked: Asked, i: int, request: Any) -> Explanation:
        feeds = {"image": asked.pictures[i][None], "class_index": np.array([asked.classes[i]], np.int64)}
        evidence = Answered(self._explain.read(await self._explain.send(feeds)))
        task = self._task(asked, i, evidence)
        try:
            while True:
                await self._pass(next(task), request)
        except StopIteration as done:
            explanations: list[Explanation] = done.value
            return explanations[0]
        finally:
            task.close()

    async def _pass(self, wanted: PassRequest, request: Any) -> None:
        """Chunks go out as they are made, up to `CHUNKS` at a time, for NAME_score to batch."""
        begun = time.perf_counter()
        sent: deque[tuple[int, Any]] = deque()
        for start in range(0, wanted.count, self._chunk):
            rows = np.empty((min(self._chunk, wanted.count - start), *self._shape), self._dtype)
            with np.errstate(over="ignore"):  # what float16 does not hold shows in the logits
                wanted.fill(start, start + len(rows), rows)
            if request.is_cancelled():
                raise CancelledError
            sent.append((start, self._score.send({"image": rows})))
            if len(sent) == CHUNKS:
                await self._take(wanted, *sent.popleft())
        while sent:
            await self._take(wanted, *sent.popleft())
        wanted.clock.add("masked_passes", time.perf_counter() - begun)
        wanted.clock.resume()

    async def _take(self, wanted: PassRequest, start: int, response: Any) -> None:
        logits = self._score.read(await response)["logits"]
        refuse_nan(logits, "logits")
        wanted.take(start, logits)

    def _task(self, asked: Asked, i: int, evidence: Answered) -> Task[list[Explanation]]:
        # Of the scorer only the size of its chunks is of use: they are sent by `_pass`, several at a time.
        scorer = Scorer(evidence, self._shape, self._chunk, pad=True)
        pipeline = Pipeline([self.manifest], [HostEngine(self.manifest, evidence, scorer)])
        return pipeline.task(ExplainRequest(asked.pictures[i], [asked.classes[i]], asked.methods, asked.budget))

    def _response(self, asked: Asked, found: Sequence[Explanation], outputs: Collection[str]) -> Any:
        logits = np.stack([np.asarray(f.logits, np.float32) for f in found])
        arrays = {m: np.stack([f.maps[m] for f in found]).astype(np.float32) for m in asked.methods} | {
            "logits": logits,
            "probabilities": probabilities(logits, self.manifest.ending).astype(np.float32),
            "class_index": np.array([f.class_index for f in found], np.int64),
            "passes": np.array([f.passes.run for f in found], np.int64),
            "flags": np.array([",".join(f.flags).encode() for f in found], object),
        }
        return pb_utils.InferenceResponse([pb_utils.Tensor(n, a) for n, a in arrays.items() if n in outputs])


def _text(value: bytes | str) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def _refusal(error: Exception) -> Any:
    """The response that says what went wrong, and whose fault it is."""
    codes = pb_utils.TritonError
    if isinstance(error, CancelledError):
        return pb_utils.InferenceResponse(error=codes("the request was cancelled", codes.CANCELLED))
    if isinstance(error, FusionCamError):
        code = codes.INVALID_ARG if isinstance(error, UsageError | ImageError) else codes.INTERNAL
        return pb_utils.InferenceResponse(error=codes(str(error), code))
    said = f"unexpected {type(error).__name__}: {error}; this is a bug, please report it"
    return pb_utils.InferenceResponse(error=codes(said, codes.INTERNAL))
