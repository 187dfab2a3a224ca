"""Record what a version promises, before its release: `python tests/stability/record.py` writes a folder of its number.

`docs/reference/stability.md` is the promise; `test_stability.py` holds every later version to these files.
"""

import importlib
import inspect
import json
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import typer

import fusioncam
from fusioncam import errors, manifest, runtime
from fusioncam.drift import Drift
from fusioncam.export import export_model
from fusioncam.runtime import Explainer, methods
from fusioncam.runtime.commands.app import app
from fusioncam.runtime.explanation import Passes
from fusioncam.runtime.flags import FLAGS
from fusioncam.runtime.probes.verdict import Verdict

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
REFERENCE = ROOT / "docs" / "reference" / "python.md"
DOCUMENTED = re.compile(r"^::: ([\w.]+)\n(?:    options:\n      members: (.*)\n)?", re.M)
IMPORTED = re.compile(r"^ *from (fusioncam[\w.]*) import (.+)$", re.M)
MAPS = ("fusion_cam", "grad_cam", "score_cam", "recipro_cam")


def interface() -> dict[str, list[str]]:
    """Return everything that has a promised name, sorted, by kind."""
    kinds = {
        "imports": _imports(),
        "python": _python(),
        "commands": _commands(),
        "exit statuses": (f"{e.__name__} {e.exit_status}" for e in _errors()),
        "results": [
            *runtime.Explanation({}, 0, None, 0.5, (), Passes(0, 0), {}).summary(),
            *(f"passes.{name}" for name in Passes._fields),
            *(f"verdict.{name}" for name in Verdict("weak", "", True, ()).summary()),
        ],
        "flags": FLAGS,
        "methods": methods.EVERY,
        "manifest": _fields(manifest.Manifest.model_json_schema()) | _fields(Drift.model_json_schema()),
        "service": _service(),
    }
    return {kind: sorted(set(names)) for kind, names in kinds.items()}


def _imports() -> Iterator[str]:
    """Yield what can be imported from where: the names of two packages, and those that a page imports."""
    for module in (fusioncam, runtime):
        yield from (f"{module.__name__}.{name}" for name in module.__all__)
    for page in PAGES:
        for module, names in IMPORTED.findall(page.read_text(encoding="utf-8")):
            yield from (f"{module}.{name.strip()}" for name in names.split(","))


def _python() -> Iterator[str]:
    """Yield parameters of the functions that the reference of Python lists, and members of its classes."""
    for path, members in DOCUMENTED.findall(REFERENCE.read_text(encoding="utf-8")):
        if path == errors.__name__:
            continue
        module, _, name = path.rpartition(".")
        documented = getattr(importlib.import_module(module), name)
        fields = getattr(documented, "_fields", getattr(documented, "__dataclass_fields__", ()))
        if not fields:  # results are made by the package alone
            yield from _parameters(name, documented)
        for member in [*fields, *re.findall(r"\w+", members.replace("false", ""))]:
            yield f"{name}.{member}"
            if inspect.isfunction(function := inspect.getattr_static(documented, member, None)):
                yield from _parameters(f"{name}.{member}", function)


def _parameters(name: str, function: Callable[..., object]) -> Iterator[str]:
    """Yield the parameters of a function, with the place of those that may be given by place."""
    parameters = [p for p in inspect.signature(function).parameters.values() if p.name != "self"]
    for place, parameter in enumerate(parameters):
        by_name = parameter.kind is parameter.KEYWORD_ONLY
        yield f"{name}({parameter.name})" if by_name else f"{name}({place}: {parameter.name})"


def _commands() -> Iterator[str]:
    """Yield the commands, with their options in all spellings."""
    for name, command in typer.main.get_command(app).commands.items():
        yield name
        for parameter in command.params:
            yield from (f"{name} {option}" for option in parameter.opts if option.startswith("-"))


def _errors() -> list[type[errors.FusionCamError]]:
    kinds = [value for value in vars(errors).values() if inspect.isclass(value)]
    return [kind for kind in kinds if issubclass(kind, errors.FusionCamError)]


def _fields(schema: dict) -> set[str]:
    """Return the fields of a JSON schema, and of the parts that it is made of."""
    parts = {schema["title"]: schema, **schema.get("$defs", {})}
    return {f"{title}.{field}" for title, part in parts.items() for field in part.get("properties", {})}


def _service() -> Iterator[str]:
    """Yield routes, inputs, outputs, parameters and metrics of the service."""
    from fusioncam.runtime.service.http.app import make_app
    from fusioncam.runtime.service.monitoring.metrics import Metrics
    from fusioncam.runtime.service.protocol.outputs import NO_MAPS
    from fusioncam.runtime.service.protocol.parameters import PARAMETERS
    from fusioncam.runtime.service.protocol.prepared_request import INPUTS
    from fusioncam.runtime.service.service import Service

    for path, routes in make_app(Service.of({})).openapi()["paths"].items():
        yield from (f"{method.upper()} {re.sub('{.*?}', '{}', path)}" for method in routes)
    yield from (f"input {name} {kind}" for name, kind in INPUTS.items())
    yield from (f"output {name} {kind}" for name, kind in NO_MAPS.items())
    yield from (f"parameter {name}" for name in PARAMETERS)
    yield from (f"metric {metric.name}" for metric in Metrics().registry.collect())


def picture(size: tuple[int, int]) -> np.ndarray:
    """Return the picture whose maps are recorded: smooth noise, the same for ever."""
    height, width = size
    y, x = np.mgrid[:height, :width]
    planes = [np.sin(x / (3 + c)) * np.cos(y / (5 - c)) for c in range(3)]
    return (127.5 + 127.5 * np.stack(planes, axis=-1)).astype(np.uint8)


def record(model: Path, folder: Path) -> None:
    """Write the interface, a bundle of a model, and the maps of one picture by that bundle."""
    folder.mkdir()
    (folder / "interface.json").write_text(json.dumps(interface(), indent=1) + "\n", encoding="utf-8")
    with tempfile.TemporaryDirectory() as temporary:
        bundle = Path(temporary) / "small.fcam"
        export_model(model, bundle, preprocessing={"preset": "torchvision"}, single=True)
        shutil.make_archive(str(folder / "bundle"), "zip", bundle)  # in git, a bundle's files could get other line ends
        explainer = Explainer(bundle, methods=MAPS)
        maps = explainer.explain(picture(explainer.manifest.preprocessing.size), 1).maps
        np.savez_compressed(folder / "maps.npz", **maps)


if __name__ == "__main__":
    sys.path.insert(0, str(HERE.parent))
    from conftest import Tiny

    with tempfile.TemporaryDirectory() as temporary:
        record(Tiny().write(Path(temporary) / "small.onnx"), HERE / fusioncam.__version__)
