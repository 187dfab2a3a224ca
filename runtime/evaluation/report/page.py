"""`report.html`: the whole evaluation in one file that needs no network and no script."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from fusioncam.runtime.evaluation.metrics.catalogue import FLAGS, METRICS
from fusioncam.runtime.evaluation.report.charts import AREA, charts
from fusioncam.runtime.evaluation.report.gallery import gallery, ranking_metric
from fusioncam.runtime.evaluation.store.store import Row
from fusioncam.runtime.flags import flag_text
from fusioncam.runtime.picture import CAPTION, DEFAULT_COLORMAP, color_table, method_title

Summary = Mapping[str, Any]
Pictures = Callable[[str], bytes | None]


def report_html(summary: Summary, rows: Sequence[Row], pictures: Pictures = lambda _: None) -> str:
    """Return the report, to be written as UTF-8.

    Args:
        summary: By `summarise`.
        rows: Those it was made of.
        pictures: Gives the WebP bytes of a picture by its path in a row, or None.
    """
    verdicts = {
        (method, name): _verdict(difference, summary["metrics"][name]["better"])
        for method, facts in summary["methods"].items()
        for name, difference in facts["against_first"].items()
        if difference["n"]
    }
    template = _environment().get_template("report.html")
    return template.render(
        summary,
        leaders=_leaders(summary),
        verdicts=verdicts,
        charts=[*charts(summary["methods"])],
        gallery=[*gallery(summary, rows, pictures)],
        ranked_by=ranking_metric(summary),
        failures=_grouped((item["error"], item["image"]) for item in summary["failed"]),
        complaints=_grouped((item["text"], item["image"]) for item in summary["problems"]),
    )


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).with_name("templates")),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_printable,
    )
    environment.filters |= {"linked": _linked, "method_name": _method_name, "number": _number, "flag_text": _flag_text}
    environment.globals |= {"area": AREA, "catalogue": METRICS, "method_title": method_title, "caption": CAPTION}
    stops = color_table(DEFAULT_COLORMAP)[::15]
    environment.globals["colors"] = ", ".join("rgb({} {} {})".format(*rgb) for rgb in stops)
    return environment


def _printable(value: Any) -> Any:
    """Return a value as text without control characters; a byte of a file name that is not UTF-8 stands by its code."""
    if isinstance(value, Markup):
        return value
    plain = str(value).encode("utf-8", "backslashreplace").decode()
    return "".join(c if c.isprintable() or c in "\n\t" else "\ufffd" for c in plain)


def _number(value: float, signed: bool = False) -> str:
    """Return a value with three digits behind the point and a true minus."""
    shown = f"{value:+.3f}" if signed else f"{value:.3f}"
    return (shown.lstrip("+-") if float(shown) == 0 else shown).replace("-", "\N{MINUS SIGN}")


def _flag_text(flag: str) -> str:
    return FLAGS.get(flag) or flag_text(flag)


def _linked(source: str) -> Markup:
    """Return a source with its arXiv numbers as links."""
    return Markup(
        re.sub(r"arXiv (\d{4}\.\d{4,5})", r'<a href="https://arxiv.org/abs/\1">arXiv \1</a>', str(escape(source)))
    )


def _method_name(method: str) -> str:
    """Return the title of a method, in one line where there is room: its hyphens do not break."""
    return method_title(method).replace("-", "\N{NON-BREAKING HYPHEN}")


def _leaders(summary: Summary) -> list[tuple[str, int]]:
    """Return the methods with the best mean in some metric, and in how many, the most first."""
    counts = [(method, sum(method in m["best"] for m in summary["metrics"].values())) for method in summary["methods"]]
    return sorted(((method, count) for method, count in counts if count), key=lambda item: -item[1])


def _verdict(difference: Mapping[str, Any], better: str) -> str:
    """Return `better`, `worse`, or nothing where the interval holds 0."""
    if not difference["settled"]:
        return ""
    return "better" if (difference["difference"] > 0) == (better == "higher") else "worse"


def _grouped(pairs: Iterable[tuple[str, str | None]]) -> list[tuple[str, list[str]]]:
    """Return texts with the names of what they are said of, the commonest text first."""
    groups: dict[str, list[str]] = {}
    for text, name in pairs:
        groups.setdefault(text, []).append(name or "")
    ranked = sorted(groups.items(), key=lambda group: -len(group[1]))
    return [(text, [name for name in names if name]) for text, names in ranked]
