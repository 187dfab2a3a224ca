"""Nodes of a session by the provider that runs them, and those that a provider left to the CPU."""

from collections.abc import Sequence
from dataclasses import dataclass

import onnxruntime

from fusioncam.libraries import require_version
from fusioncam.runtime.providers.naming import spec_of
from fusioncam.runtime.providers.spec import ProviderSpec
from fusioncam.runtime.providers.table import CPU

RECORD = "session.record_ep_graph_assignment_info"  # without it, onnxruntime does not say which node runs where
NAMED = 3  # nodes in a message


@dataclass(frozen=True)
class PlacedNode:
    """A node of a graph as onnxruntime runs it: after its basic optimisations, with axes as the provider wants them.

    Attributes:
        name: Its name, which may be empty or one that onnxruntime made.
        operator: Its operator type.
        provider: Full name of the provider that runs it.
    """

    name: str
    operator: str
    provider: str


def placed_nodes(session: onnxruntime.InferenceSession) -> list[PlacedNode]:
    """Return the nodes of a session that was opened with `RECORD`.

    Raises:
        LibraryError: This onnxruntime does not say which provider runs a node.
    """
    require_version("onnxruntime", onnxruntime.__version__, (1, 24))
    return [
        PlacedNode(node.name, node.op_type, part.ep_name)
        for part in session.get_provider_graph_assignment_info()
        for node in part.get_nodes()
    ]


def providers_of(*sessions: onnxruntime.InferenceSession) -> tuple[str, ...]:
    """Return the short names of the providers that run nodes of any of the sessions, in order of preference."""
    ran = dict.fromkeys(name for session in sessions for name in _ran(session))
    return tuple(spec_of(name).short for name in ran)


def _ran(session: onnxruntime.InferenceSession) -> list[str]:
    """Return the full names of the providers that run nodes of a session."""
    listed: list[str] = session.get_providers()
    if listed == [CPU]:  # such a session is opened without `RECORD`
        return listed
    ran = {node.provider for node in placed_nodes(session)}
    return [name for name in listed if name in ran]


def left_to_cpu(nodes: Sequence[PlacedNode], specs: Sequence[ProviderSpec]) -> list[PlacedNode]:
    """Return the nodes that run on the CPU because no provider takes them.

    Shape computations that onnxruntime itself keeps there are not among them, see `ProviderSpec.leaves`.

    Args:
        nodes: Those of a session.
        specs: Its providers.
    """
    usual = frozenset[str]().union(*(spec.leaves for spec in specs))
    return [node for node in nodes if node.provider == CPU and node.operator not in usual]


def listed_nodes(nodes: Sequence[PlacedNode]) -> str:
    """Return operators and names of the first nodes, and how many more there are."""
    first = [f"{node.operator} {node.name}".strip() for node in nodes[:NAMED]]
    more = [f"{len(nodes) - NAMED} more"] if len(nodes) > NAMED else []
    return ", ".join([*first, *more])
