"""Surveys of `inspect --providers` as tables and as JSON."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table

from fusioncam.errors import UsageError
from fusioncam.manifest import MANIFEST, read_bundle
from fusioncam.runtime.commands import console
from fusioncam.runtime.sessions.placement import listed_nodes

if TYPE_CHECKING:
    from fusioncam.runtime.sessions.survey import Survey

USUAL = 2  # onnxruntime's level of logs, unless told otherwise: warnings


def survey_model(model: Path, providers: Sequence[str], options: Mapping[str, Any]) -> "list[Survey]":
    """Return the surveys of a bundle, or of the bundle that a model would become.

    Args:
        model: The bundle, or the ONNX file.
        providers: Their names.
        options: Of `export_model`, None where the user gave none.

    Raises:
        FusionCamError: A provider cannot be used here, the model cannot be exported, or it is a bundle already and one
            of the options of an export is given.
    """
    from fusioncam.runtime.providers.naming import specs
    from fusioncam.runtime.sessions.plugins import require
    from fusioncam.runtime.sessions.survey import survey_bundle

    require(specs(providers))
    with _bundle_of(model, options) as folder:
        return survey_bundle(folder, read_bundle(folder), providers)


@contextmanager
def _bundle_of(model: Path, options: Mapping[str, Any]) -> Iterator[Path]:
    """Yield a bundle: the model itself, or one that is made of it and deleted in the end."""
    if (model / MANIFEST).is_file():
        if any(option is not None for option in options.values()):
            raise UsageError(
                f"{model} is a bundle, whose layer, size, layout and scores are fixed; leave those options out"
            )
        yield model
        return
    import onnxruntime

    from fusioncam.export import export_model
    from fusioncam.export.sessions import silence_default_logger
    from fusioncam.files import temporary_folder

    with temporary_folder() as room:
        silence_default_logger()
        export_model(model, room / "model.fcam", **options)
        onnxruntime.set_default_logger_severity(USUAL)  # it tells why a provider cannot be used
        yield room / "model.fcam"


def survey_json(survey: "Survey") -> dict[str, Any]:
    """Return a survey, ready for JSON."""
    from fusioncam.runtime.providers.naming import spec_of

    left = {id(node) for node in survey.left}
    return {
        "graph": survey.graph,
        "refused": survey.refused,
        "left": len(survey.left),
        "operators": survey.counts,
        "nodes": [
            {
                "name": node.name,
                "operator": node.operator,
                "provider": spec_of(node.provider).short,
                "left": id(node) in left,
                "reason": survey.reasons.get(node.name) if id(node) in left else None,
            }
            for node in survey.nodes
        ],
    }


def print_survey(survey: "Survey") -> None:
    """Print who would run a graph: a table by operator, and every node that is left to the CPU."""
    if survey.refused is not None:
        console.say(survey.refused)
        return
    table = Table("operator", *(columns := _columns(survey)), box=None, pad_edge=False)
    for column in table.columns[1:]:
        column.justify = "right"
    for operator, counts in survey.counts.items():
        table.add_row(operator, *(str(counts.get(short, "")) for short in columns))
    console.say(f"{survey.graph}: {len(survey.nodes)} nodes, {len(survey.left) or 'none'} left to the CPU")
    console.out.print(table, markup=False)
    for node in survey.left:
        reason = survey.reasons.get(node.name, "the provider does not say why")
        console.say(f"left: {listed_nodes([node])}: {reason}")


def _columns(survey: "Survey") -> list[str]:
    """Return the providers that run a node, the one with most nodes first."""
    totals: dict[str, int] = {}
    for counts in survey.counts.values():
        for short, count in counts.items():
            totals[short] = totals.get(short, 0) + count
    return sorted(totals, key=lambda short: -totals[short])
