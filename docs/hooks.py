"""The parts of the documentation that are made from the code at every build, so that they cannot go stale.

A page says where with a line `<!-- made: NAME -->`, NAME one of `MADE`.
"""

import inspect
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import typer
from pydantic import BaseModel

from fusioncam import detector, drift, free_size, further_inputs, manifest
from fusioncam.errors import OTHER_KINDS, FusionCamError
from fusioncam.export.gradient.rules import BODY_RULES, RULES
from fusioncam.export.lowering import LOWERINGS
from fusioncam.export.source_metadata.preprocessing import PRESETS
from fusioncam.runtime import methods
from fusioncam.runtime.commands.app import app
from fusioncam.runtime.commands.examples import EXAMPLES
from fusioncam.runtime.evaluation.metrics.catalogue import ASK, METRICS
from fusioncam.runtime.flags import FLAGS
from fusioncam.runtime.picture import method_title

_MARK = re.compile(r"^<!-- made: ([a-z-]+) -->$", re.MULTILINE)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Called by mkdocs for every page."""
    return _MARK.sub(lambda mark: MADE[mark[1]](), markdown)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(_escaped(cell, '[|]') for cell in line)} |" for line in lines) + "\n"


def _plain(text: str) -> str:
    """Text that may hold `code`, in which nothing else means anything to Markdown or HTML."""
    return _escaped(" ".join(text.split()), r"[\[\]*_<]")


def _escaped(text: str, characters: str) -> str:
    """With some characters outside of `code` as HTML entities."""
    parts = text.split("`")
    parts[::2] = [re.sub(characters, lambda c: f"&#{ord(c[0])};", part) for part in parts[::2]]
    return "`".join(parts)


def _commands() -> str:
    """Every command, with what `--help` says of it, examples included."""
    group = typer.main.get_command(app)
    return "\n".join(_command(name, command) for name, command in sorted(group.commands.items()))


def _command(name: str, command: Any) -> str:
    context = typer.Context(command, info_name=f"fusioncam {name}")
    kinds = {
        kind: [[f"`{name}`", _plain(meaning)] for name, meaning in command.help_rows(context, kind)]
        for kind in ("argument", "option")
    }
    usage = " ".join(command.collect_usage_pieces(context))
    parts = [f"## fusioncam {name}\n", _plain(command.help or ""), f"\n```text\nfusioncam {name} {usage}\n```\n"]
    parts += [_table((kind, "meaning"), rows) for kind, rows in kinds.items() if rows]
    parts.append("\n".join(("```bash", *EXAMPLES[name], "```\n")))
    return "\n".join(parts)


def _fields(model: type[BaseModel]) -> str:
    """The fields of a part of manifest.json, described as its docstring does."""
    schema, text = model.model_json_schema(), (inspect.getdoc(model) or "").partition("Attributes:\n")[2]
    said = dict(re.findall(r"^ {4}(\w+): (.*(?:\n {8}.*)*)", text, re.MULTILINE))
    needed = schema.get("required", [])
    rows = [
        [f"`{name}`", _kind(facts), "" if name in needed else f"`{json.dumps(facts['default'])}`", said.get(name, "")]
        for name, facts in schema["properties"].items()
    ]
    return _table(("field", "type", "if left out", "meaning"), [[*row[:3], _plain(row[3])] for row in rows])


def _kind(facts: Mapping[str, Any]) -> str:
    """A type, from its JSON schema."""
    if "anyOf" in facts:
        return " or ".join(map(_kind, facts["anyOf"]))
    if "$ref" in facts:
        name = facts["$ref"].rpartition("/")[2]
        return f"[{name.lower()}](#{name.lower()})"
    if "enum" in facts or "const" in facts:
        return " | ".join(f"`{json.dumps(value)}`" for value in facts.get("enum", [facts.get("const")]))
    if "prefixItems" in facts:
        return f"{len(facts['prefixItems'])} x {_kind(facts['prefixItems'][0])}"
    if facts["type"] == "array":
        return f"list of {_kind(facts['items'])}"
    return f"{facts['type']} of {_kind(facts['additionalProperties'])}" if facts["type"] == "object" else facts["type"]


def _metrics_of(options: Callable[[str], bool]) -> str:
    """The metrics that some options of `fusioncam evaluate` measure."""
    rows = [
        [f"`{metric.option}`", metric.label, metric.better, metric.meaning, metric.source]
        for metric in METRICS.values()
        if options(metric.option)
    ]
    return _table(("option", "metric", "better", "meaning", "from"), rows)


def _errors() -> str:
    """The kinds of errors that JSON names, with the exit status of the command line."""

    def classes(base: type[FusionCamError]) -> Iterator[type[FusionCamError]]:
        for kind in base.__subclasses__():
            yield kind
            yield from classes(kind)

    ours = [
        [f"`{kind.kind_name()}`", str(kind.exit_status), _plain((inspect.getdoc(kind) or "").partition("\n")[0])]
        for kind in classes(FusionCamError)
        if kind.__module__ == FusionCamError.__module__
    ]
    others = [[f"`{kind}`", "1", _plain(text)] for kind, text in OTHER_KINDS.items()]
    return _table(("kind", "exit status", "what it is"), sorted([*ours, *others]))


def _rules() -> str:
    """Operators with a gradient rule."""
    return _names({**RULES, **BODY_RULES})


def _lowered() -> str:
    """Operators that a row of the table writes in others."""
    return _names(LOWERINGS)


def _names(operators: Iterable[tuple[str, str]]) -> str:
    return ", ".join(f"`{domain}.{name}`" if domain else f"`{name}`" for domain, name in sorted(operators))


def _methods() -> str:
    kinds = {"gradient": methods.GRADIENT, "region": methods.REGION, "fused": methods.FUSED}
    rows = [
        [f"`{name}`", method_title(name), kind, "yes" if methods.needs_gradient(name) else "no"]
        for kind, names in kinds.items()
        for name in names
    ]
    return _table(("name", "method", "kind", "needs the gradient"), rows)


def _presets() -> str:
    numbers = "rescale", "mean", "std"
    rows = []
    for name, fields in PRESETS.items():
        whole = manifest.Preprocessing(size=(1, 1), **fields)
        rows.append([f"`{name}`", *(_numbers(whole, field) for field in numbers), _way(fields)])
    return _table(("preset", *numbers, "beside the arithmetic"), rows)


def _way(fields: Mapping[str, Any]) -> str:
    """Return what a preset says beside its arithmetic."""
    return ", ".join(f"`{name}: {value}`" for name, value in fields.items() if name not in ("rescale", "mean", "std"))


def _numbers(prep: manifest.Preprocessing, name: str) -> str:
    value = getattr(prep, name)
    return " ".join(f"{v:g}" for v in value) if isinstance(value, tuple) else f"{value:.6g}"


def _flags() -> str:
    return _table(("flag", "what it means"), ([f"`{flag}`", _plain(text)] for flag, text in FLAGS.items()))


def _routes() -> str:
    """Return the routes of the service, from its own description."""
    from fusioncam.runtime.service.http.app import make_app
    from fusioncam.runtime.service.service import Service

    paths = make_app(Service.of({})).openapi()["paths"]
    rows = [
        [f"`{method.upper()} {path}`", _plain(facts.get("summary", ""))]
        for path, methods in paths.items()
        for method, facts in methods.items()
    ]
    return _table(("route", "what it gives"), rows)


def _settings() -> str:
    """The limits of the service."""
    from fusioncam.runtime.service.settings import Settings

    return _fields(Settings)


def _metrics() -> str:
    """Return the metrics that the service gives Prometheus."""
    from fusioncam.runtime.service.monitoring.metrics import Metrics

    rows = []
    for metric in Metrics().registry.collect():
        suffix = {"counter": "_total"}.get(metric.type, "")
        rows.append([f"`{metric.name}{suffix}`", metric.type, _plain(metric.documentation)])
    return _table(("metric", "kind", "meaning"), rows)


MADE: dict[str, Callable[[], str]] = {
    "commands": _commands,
    "detector": lambda: _fields(detector.Detector),
    "drift": lambda: _fields(drift.Drift),
    "flags": _flags,
    "errors": _errors,
    "free-size": lambda: _fields(free_size.FreeSize),
    "further-input": lambda: _fields(further_inputs.FurtherInput),
    "faithfulness": lambda: _metrics_of(lambda option: option.startswith(ASK)),
    "layer": lambda: _fields(manifest.Layer),
    "localisation": lambda: _metrics_of(lambda option: option == "--annotations"),
    "metrics": _metrics,
    "manifest": lambda: _fields(manifest.Manifest),
    "method-drift": lambda: _fields(drift.MethodDrift),
    "methods": _methods,
    "preprocessing": lambda: _fields(manifest.Preprocessing),
    "presets": _presets,
    "routes": _routes,
    "rules": _rules,
    "lowered": _lowered,
    "settings": _settings,
    "source": lambda: _fields(manifest.Source),
}
"""What a page can ask for, by name."""
