"""The figures of several processes, added up: plain numbers, without files."""

from collections.abc import Iterable
from typing import TypeAlias

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.samples import Sample

Samples: TypeAlias = list[tuple[str, dict[str, str], float]]
MetricSamples: TypeAlias = dict[str, Samples]
"""Samples by the names of their families; each is a name, labels, and a value. Goes through JSON unharmed."""

LATEST = "last_"  # in the name of a gauge: of several processes the largest counts; of others the sum of living ones


def collect_samples(registry: CollectorRegistry) -> MetricSamples:
    """Return what a process has counted."""
    return {
        family.name: [(s.name, s.labels, s.value) for s in family.samples if not s.name.endswith("_created")]
        for family in registry.collect()
    }


def drop_gauges(figures: MetricSamples) -> MetricSamples:
    """Return what still counts of a process that has ended: all but gauges, which tell what is under way."""
    return {
        family: [s for s in samples if s[0] != family or LATEST in family]  # the others' samples have endings
        for family, samples in figures.items()
    }


def total(parts: Iterable[MetricSamples]) -> MetricSamples:
    """Return the figures of several processes as one."""
    families: dict[str, dict[tuple[str, tuple[tuple[str, str], ...]], float]] = {}
    for part in parts:
        for family, samples in part.items():
            found = families.setdefault(family, {})
            for name, labels, value in samples:
                key = name, tuple(sorted(labels.items()))
                before = found.get(key)
                both = value if before is None else max(before, value) if LATEST in family else before + value
                found[key] = both
    return {
        family: [(name, dict(labels), value) for (name, labels), value in samples.items()]
        for family, samples in families.items()
    }


class SamplesCollector:
    """A collector of Prometheus's that shows figures, with the titles and types of a registry.

    Args:
        registry: Knows the families.
        figures: Of one process, or the sum of several.
    """

    def __init__(self, registry: CollectorRegistry, figures: MetricSamples) -> None:
        self._registry, self._figures = registry, figures

    def collect(self) -> Iterable[Metric]:
        """Yield the families."""
        for family in self._registry.collect():
            shown = Metric(family.name, family.documentation, family.type)
            shown.samples = [Sample(name, labels, value) for name, labels, value in self._figures.get(family.name, ())]
            yield shown
