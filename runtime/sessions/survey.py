"""Graphs of a bundle held against providers, node by node, without a run."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fusioncam.errors import GraphRefusedError
from fusioncam.manifest import BATCH, CHUNK, EXPLAIN_GRAPH, HEAD_GRAPH, MASKS_BATCH, SCORE_GRAPH, Manifest
from fusioncam.quirks import crashing_optimizers
from fusioncam.runtime.providers.naming import resolve, spec_of, specs
from fusioncam.runtime.providers.spec import Provider
from fusioncam.runtime.sessions.failures import not_begun
from fusioncam.runtime.sessions.open import Opening, create_session
from fusioncam.runtime.sessions.placement import PlacedNode, left_to_cpu, placed_nodes

PREFIX = r"\[[WE]:onnxruntime:[^\]]*\] "  # of a warning or an error; time and colours precede it
MASKS = 1  # of the head graph: their number changes nothing of who runs it


@dataclass(frozen=True)
class Survey:
    """The nodes of one graph by the providers that would run them.

    Attributes:
        graph: Name of the file.
        nodes: All nodes, as onnxruntime would run them; empty where the graph is refused.
        left: Those that run on the CPU because no provider takes them.
        reasons: For some of these, by name, why; in words of the provider.
        refused: Why the graph cannot be opened at all, or None.
    """

    graph: str
    nodes: Sequence[PlacedNode] = ()
    left: Sequence[PlacedNode] = ()
    reasons: Mapping[str, str] = field(default_factory=dict)
    refused: str | None = None

    @property
    def counts(self) -> dict[str, dict[str, int]]:
        """Return by operator how many nodes each provider runs, by short name; the most frequent operator first."""
        counts: dict[str, dict[str, int]] = {}
        for node in self.nodes:
            of_operator = counts.setdefault(node.operator, {})
            short = spec_of(node.provider).short
            of_operator[short] = of_operator.get(short, 0) + 1
        return dict(sorted(counts.items(), key=lambda item: -sum(item[1].values())))


def survey_bundle(folder: Path, manifest: Manifest, providers: Sequence[Provider]) -> list[Survey]:
    """Return a survey of each graph that an explanation runs.

    Args:
        folder: The bundle.
        manifest: Its manifest.
        providers: See `resolve`.

    Raises:
        UsageError: See `resolve`.
        ProviderError: A provider cannot be used at all.
        BundleError: onnxruntime cannot load a graph.
    """
    chunk = specs(providers)[0].chunk or CHUNK
    sizes = {EXPLAIN_GRAPH: {BATCH: 1}, SCORE_GRAPH: {BATCH: chunk}, HEAD_GRAPH: {MASKS_BATCH: MASKS}}
    disabled = crashing_optimizers(manifest)
    return [
        survey_graph(folder / name, Opening(resolve(providers), disabled=disabled, sizes=axes, survey=True))
        for name, axes in sizes.items()
        if name in manifest.files
    ]


def survey_graph(path: Path, opening: Opening) -> Survey:
    """Return the survey of one graph.

    Args:
        path: The graph.
        opening: How it is opened, with `survey`.

    Raises:
        ProviderError, BundleError: See `survey_bundle`.
    """
    try:
        session, log = create_session(path, opening)
    except GraphRefusedError as error:
        return Survey(path.name, refused=str(error))
    if failure := not_begun(log, opening.specs):
        raise failure
    nodes = placed_nodes(session)
    left = [] if opening.on_cpu else left_to_cpu(nodes, opening.specs)
    reasons = {node.name: reason for node in left if node.name and (reason := reason_of(log, node.name))}
    return Survey(path.name, nodes, left, reasons)


def reason_of(log: str, name: str) -> str | None:
    """Return why a provider refuses a node, where its log says so.

    Args:
        log: The log of all that onnxruntime and its providers do.
        name: The node's name.
    """
    word = re.escape(name)
    warning = re.search(rf"{PREFIX}(.*(?<![\w/.]){word}(?![\w/.]).*)", log)
    reason = re.search(rf"Node name: {word} Node index.*\n\s*REASON : (.*)", log)
    found = warning or reason
    return re.sub(r"\x1b\[[\d;]*m", "", found[1]).strip() if found else None
