"""The metrics for Prometheus: of requests, of the stages of explanations, and of the batchers."""

import time
from collections.abc import Callable
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from fusioncam.runtime.explanation import Explanation
from fusioncam.runtime.service.monitoring.observer import Observer
from fusioncam.runtime.service.monitoring.samples import MetricSamples, SamplesCollector, collect_samples

SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 60)
PASSES = (1, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096)
FILL = (0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875, 1)


class Metrics(Observer):
    """The metrics of this process, and the observer of its batchers. Safe to share between threads.

    They are kept in memory, never in files: a full disk must not end the process.

    Args:
        share: Returns the samples of all processes for those of this one, or raises BusyError. By default this process
            is alone.
    """

    def __init__(self, share: Callable[[MetricSamples], MetricSamples] = lambda own: own) -> None:
        self.registry, self._share = CollectorRegistry(), share

        def make(kind: Any, name: str, title: str, labels: str, **options: Any) -> Any:
            return kind(f"fusioncam_{name}", title, labels.split(), registry=self.registry, **options)

        self._requests = make(Counter, "requests", "Requests answered.", "route model status")
        self._seconds = make(
            Histogram, "request_seconds", "From a request's head to its answer.", "route", buckets=SECONDS
        )
        self._answering = make(Gauge, "requests_answering", "Requests begun.", "")
        self._inferences = make(
            Histogram, "inference_seconds", "Requests for explanations.", "model outcome", buckets=SECONDS
        )
        self._last = make(Gauge, "last_inference_timestamp_seconds", "Of the last answer.", "model")
        self._stages = make(
            Histogram, "stage_seconds", "Stages of explanations, and of requests around.", "model stage",
            buckets=SECONDS,
        )  # fmt: skip
        self._explanations = make(Counter, "explanations", "Pictures explained.", "model")
        self._unexplained = make(
            Counter, "not_explained", "Pictures answered without maps, by what spoke against them.", "model reason"
        )
        self._passes = make(Histogram, "passes", "Masked passes of an explanation.", "model", buckets=PASSES)
        self._flags = make(Counter, "flags", "Special cases that explanations met.", "model flag")
        self._waiting = make(Gauge, "queue_waiting", "Jobs that wait.", "model")
        self._runs = make(Histogram, "chunk_seconds", "Runs of the session.", "model", buckets=SECONDS)
        self._fill = make(Histogram, "chunk_fill", "Pictures in a run over its size.", "model", buckets=FILL)
        self._fallbacks = make(Counter, "fallbacks", "Done in a slower way than asked for.", "model reason")

    def queued(self, model: str, more: int) -> None:
        """Count jobs of a model that wait; several batchers may have its name, one for each version."""
        self._waiting.labels(model).inc(more)

    def chunk(self, model: str, pictures: int, size: int, seconds: float) -> None:
        """Count a run of the session."""
        self._runs.labels(model).observe(seconds)
        self._fill.labels(model).observe(pictures / size)

    def finished(self, model: str, explanation: Explanation) -> None:
        """Count a successful job."""
        self._explanations.labels(model).inc()
        self._passes.labels(model).observe(explanation.passes.run)
        for flag in explanation.flags:  # without the parts of a fused method, of which there is no end
            self._flags.labels(model, flag.partition(":")[0]).inc()
        self._took(model, explanation)

    def not_explained(self, model: str, explanation: Explanation, reason: str) -> None:
        """Count a successful job without maps."""
        self._unexplained.labels(model, reason).inc()
        self._took(model, explanation)

    def _took(self, model: str, explanation: Explanation) -> None:
        for stage, seconds in explanation.timing.items():
            self.stage(model, stage, seconds)

    def fallback(self, model: str, reason: str) -> None:
        """Count a job that was done in a slower way than asked for."""
        self._fallbacks.labels(model, reason).inc()

    def stage(self, model: str, stage: str, seconds: float) -> None:
        """Count a stage of an explanation, or of a request around it."""
        self._stages.labels(model, stage).observe(seconds)

    def begun(self) -> None:
        """Count a request that came."""
        self._answering.inc()

    def answered(self, route: str, model: str, status: int, seconds: float) -> None:
        """Count a request that is answered."""
        self._answering.dec()
        self._requests.labels(route, model, status).inc()
        self._seconds.labels(route).observe(seconds)

    def inferred(self, model: str, outcome: str, seconds: float) -> None:
        """Count a request for explanations that ended, with `success` or `fail`."""
        self._inferences.labels(model, outcome).observe(seconds)
        self._last.labels(model).set(time.time())

    def samples(self) -> MetricSamples:
        """Return the samples of this process."""
        return collect_samples(self.registry)

    def _of_all(self) -> MetricSamples:
        return self._share(self.samples())

    def exposition(self) -> bytes:
        """Return the metrics of all processes in Prometheus's text format; raise BusyError if they are unavailable."""
        registry = CollectorRegistry()
        registry.register(SamplesCollector(self.registry, self._of_all()))
        return generate_latest(registry)

    def durations(self, histogram: str, model: str) -> dict[str, tuple[int, float]]:
        """Return count and seconds of a model by the label of a histogram, in all processes.

        Args:
            histogram: `inference`, whose label is the outcome, or `stage`, whose label is the stage.
            model: The model's name.
        """
        totals: dict[str, tuple[int, float]] = {}
        for name, labels, value in self._of_all().get(f"fusioncam_{histogram}_seconds", []):
            if labels["model"] == model and name.endswith(("_count", "_sum")):
                key = labels["outcome" if histogram == "inference" else "stage"]
                count, seconds = totals.get(key, (0, 0.0))
                totals[key] = (count + int(value), seconds) if name.endswith("_count") else (count, seconds + value)
        return totals

    def last_inference(self, model: str) -> float:
        """Return when the last request for explanations of a model ended, in seconds since 1970; 0 if none did."""
        samples = self._of_all().get("fusioncam_last_inference_timestamp_seconds", [])
        return max((value for _, labels, value in samples if labels["model"] == model), default=0.0)
