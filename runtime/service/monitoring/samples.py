"""The metric samples of several processes, added up: plain numbers, without files."""

from collections.abc import Iterable
from typing import TypeAlias

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.samples import Sample

MetricSamples: TypeAlias = dict[str, list[tuple[str, dict[str, str], float]]]
"""Samples by the names of their families; each is a name, labels, and a value. JSON keeps all of it."""

LATEST = "last_"  # in the name of a gauge whose largest value counts; other gauges are summed over living processes


def collect_samples(registry: CollectorRegistry) -> MetricSamples:
    """Return the samples of a process."""
    return {
        family.name: [(s.name, s.labels, s.value) for s in family.samples if not s.name.endswith("_created")]
        for family in registry.collect()
    }


def drop_gauges(samples: MetricSamples) -> MetricSamples:
    """Return the samples of a process that has ended without its gauges, which tell what is going on now."""
    return {
        family: [s for s in entries if s[0] != family or LATEST in family]  # names other than gauges' have a suffix
        for family, entries in samples.items()
    }


def sum_samples(processes: Iterable[MetricSamples]) -> MetricSamples:
    """Return the samples of several processes as one."""
    families: dict[str, dict[tuple[str, tuple[tuple[str, str], ...]], float]] = {}
    for process in processes:
        for family, entries in process.items():
            totals = families.setdefault(family, {})
            for name, labels, value in entries:
                key = name, tuple(sorted(labels.items()))
                if key in totals:
                    value = max(totals[key], value) if LATEST in family else totals[key] + value
                totals[key] = value
    return {
        family: [(name, dict(labels), value) for (name, labels), value in totals.items()]
        for family, totals in families.items()
    }


class SamplesCollector:
    """A collector of Prometheus's for samples, with the titles and types of a registry.

    Args:
        registry: Knows the families.
        samples: Of one process, or the sum of several.
    """

    def __init__(self, registry: CollectorRegistry, samples: MetricSamples) -> None:
        self._registry, self._samples = registry, samples

    def collect(self) -> Iterable[Metric]:
        """Yield the families of metrics."""
        for family in self._registry.collect():
            metric = Metric(family.name, family.documentation, family.type)
            metric.samples = [Sample(*entry) for entry in self._samples.get(family.name, ())]
            yield metric
