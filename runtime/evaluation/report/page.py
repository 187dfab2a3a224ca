"""`report.html`: the whole evaluation in one file that needs no network and no script."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fusioncam.runtime.evaluation.metrics import catalogue
from fusioncam.runtime.evaluation.metrics.definitions import DEFINITIONS
from fusioncam.runtime.evaluation.report.charts import charts
from fusioncam.runtime.evaluation.report.gallery import gallery
from fusioncam.runtime.evaluation.report.html import (
    grouped,
    interval,
    linked,
    method_name,
    number,
    photos,
    scrolling,
    section,
    swatch,
    text,
)
from fusioncam.runtime.evaluation.store.store import Row
from fusioncam.runtime.explanation import flag_text
from fusioncam.runtime.picture import method_title

NAMED = 50  # problems, or photos with one problem, that are named; the others are counted
FEW = 20  # photos below which the percentile bootstrap is known to be too sure
ARROWS = {"higher": "↑ higher is better", "lower": "↓ lower is better"}

Summary = Mapping[str, Any]
Pictures = Callable[[str], bytes | None]


def report_html(summary: Summary, rows: Sequence[Row], pictures: Pictures = lambda _: None) -> str:
    """The report, ready to be written as UTF-8.

    Args:
        summary: By `summarise`.
        rows: Those it was made of.
        pictures: Gives the WebP bytes of a picture by its path in a row, or None.
    """
    about = summary["about"]
    title = f"Which maps to trust: {about['model']}" if about.get("model") else "Which maps to trust"
    first = method_title(summary["first"] or "")
    sections = (
        section("run", "What was run", _facts(summary)),
        section("figures", "All figures", *_figures(summary)),
        section("differences", f"Differences from {first}", *_differences(summary)),
        section("curves", "Insertion and deletion", charts(summary["methods"]), _BANDS if _has_curves(summary) else ""),
        section("gallery", "Best and worst maps", gallery(summary, rows, pictures)),
        section("wrong", "What went wrong", *_wrong(summary)),
        section("meaning", "What the figures mean", _meaning(summary)),
    )
    style = Path(__file__).with_name("report.css").read_text("utf-8")
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        f"<title>{text(title)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n<header>\n<h1>{text(title)}</h1>\n"
        f"{_lead(summary)}\n</header>\n<main>\n" + "\n".join(filter(None, sections)) + "\n</main>\n</body>\n</html>\n"
    )


_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"  # nothing is fetched, nothing is run
_BANDS = '<p class="note">Bands: 95 % bootstrap intervals of the mean, point by point.</p>'


def _has_curves(summary: Summary) -> bool:
    return any(m["curves"] for m in summary["methods"].values())


def _lead(summary: Summary) -> str:
    """What was found, in a few sentences, with the doubts."""
    seen, first = summary["photos"], summary["first"]
    if not seen["evaluated"]:
        return f'<p class="lead">None of {photos(seen["all"])} could be evaluated.</p>'
    lines = [f"{seen['evaluated']} of {photos(seen['all'])}, {len(summary['methods'])} methods."]
    leaders = {
        method: [m["label"] for m in summary["metrics"].values() if method in m["best"]]
        for method in summary["methods"]
    }
    if any(leaders.values()):
        ranked = sorted(((len(led), method) for method, led in leaders.items() if led), key=lambda item: -item[0])
        said = ", ".join(f"{method_name(method)} in {count}" for count, method in ranked)
        lines.append(f"Best mean of {len(summary['metrics'])} figures: {said}.")
    verdicts = [_verdict(d, summary["metrics"][m]["better"]) for _, m, d in _pairs(summary)]
    if verdicts:
        # The differences are the others' less the first's.
        ahead, behind = verdicts.count("worse"), verdicts.count("better")
        lines.append(
            f"Of {len(verdicts)} differences between {method_name(first)} and the others, settled in its favour: "
            f"{ahead}; against it: {behind}; within chance: {len(verdicts) - ahead - behind}."
        )
    return f'<p class="lead">{" ".join(lines)}</p>'


def _facts(summary: Summary) -> str:
    seen = summary["photos"]
    failed = f", {seen['failed']} could not be evaluated" if seen["failed"] else ""
    facts = {
        **summary["about"],
        "photos": f"{seen['evaluated']} evaluated{failed}",
        "top class right": f"{seen['correct']} of {seen['annotated']} annotated" if seen["annotated"] else None,
    }
    items = "".join(
        f"<div><dt>{text(str(name).replace('_', ' '))}</dt><dd>{_fact(value)}</dd></div>"
        for name, value in facts.items()
        if value not in (None, "", [], {})
    )
    return f'<dl class="facts">{items}</dl>'


def _fact(value: Any) -> str:
    if isinstance(value, Mapping):
        return "<br>".join(f"{text(k)} {text(v)}" for k, v in value.items())
    return ", ".join(map(text, value)) if isinstance(value, list | tuple) else text(value)


def _head(summary: Summary) -> str:
    columns = "".join(
        f'<th scope="col">{text(m["label"])}<small>{ARROWS[m["better"]]}</small></th>'
        for m in summary["metrics"].values()
    )
    return f'<thead><tr><th scope="col">Method</th>{columns}</tr></thead>'


def _table(summary: Summary, title: str, rows: Iterable[tuple[int, str, Iterable[str]]]) -> str:
    body = "".join(
        f'<tr><th scope="row">{swatch(n)}{method_name(method)}</th>{"".join(cells)}</tr>' for n, method, cells in rows
    )
    return scrolling(f"<table><caption>{text(title)}</caption>{_head(summary)}<tbody>{body}</tbody></table>", title)


def _figures(summary: Summary) -> tuple[str, ...]:
    if not summary["metrics"] or not summary["methods"]:
        return ("<p>Nothing was measured.</p>",)

    def cell(method: str, name: str) -> str:
        facts = summary["methods"][method]["metrics"][name]
        best = method in summary["metrics"][name]["best"]
        fewer = f"<small>{photos(facts['n'])}</small>" if facts["n"] and facts["left_out"] else ""
        mark, value = (
            (' class="best"', f"<b>{number(facts['mean'])}</b> <em>best</em>") if best else ("", number(facts["mean"]))
        )
        return f"<td{mark}>{value}<small>{interval(facts)}</small>{fewer}</td>"

    rows = ((n, m, (cell(m, name) for name in summary["metrics"])) for n, m in enumerate(summary["methods"]))
    note = "Means over the photos, with 95 % bootstrap intervals in brackets."
    if summary["photos"]["evaluated"] < FEW:
        note += " Of so few photos the intervals tend to be too narrow."
    return f'<p class="note">{note}</p>', _table(summary, "Every method by every figure", rows)


def _pairs(summary: Summary) -> list[tuple[str, str, Mapping[str, Any]]]:
    return [
        (method, name, difference)
        for method, facts in summary["methods"].items()
        for name, difference in facts["against_first"].items()
        if difference["n"]
    ]


def _verdict(difference: Mapping[str, Any], better: str) -> str:
    """`better`, `worse`, or nothing where the interval holds 0."""
    if not difference["settled"]:
        return ""
    return "better" if (difference["difference"] > 0) == (better == "higher") else "worse"


def _differences(summary: Summary) -> tuple[str, ...]:
    if not _pairs(summary):
        return ()

    def cell(method: str, name: str) -> str:
        facts = summary["methods"][method]["against_first"].get(name)
        if not facts or not facts["n"]:
            return f"<td>{number(None)}</td>"
        verdict = _verdict(facts, summary["metrics"][name]["better"])
        word = f"<em>{verdict}</em> " if verdict else ""
        wins = (
            ""
            if facts["won"] is None
            else f"<small>wins {facts['won']:.0%}"
            + (f", ties {facts['tied']:.0%}</small>" if facts["tied"] else "</small>")
        )
        mark = f' class="{verdict}"' if verdict else ""
        return f"<td{mark}>{word}{number(facts['difference'], True)}<small>{interval(facts, True)}</small>{wins}</td>"

    others = [(n, m) for n, m in enumerate(summary["methods"]) if m != summary["first"]]
    rows = ((n, m, (cell(m, name) for name in summary["metrics"])) for n, m in others)
    name = method_name(summary["first"])
    note = (
        f"Each method's value less that of {name} on the same photo, mean and 95 % bootstrap interval. Marked better "
        "or worse than it where the interval leaves out 0; each is judged by itself, so that one of twenty or so is "
        "marked by chance."
    )
    title = f"Paired differences from {method_title(summary['first'])}"
    return f'<p class="note">{note}</p>', _table(summary, title, rows)


def _wrong(summary: Summary) -> tuple[str, ...]:
    failed = grouped((item["error"], item["image"]) for item in summary["failed"])
    problems = grouped((item["text"], item["image"] or "") for item in summary["problems"])
    flags = "".join(
        f"<li>{method_name(method)}: {text(_meant(flag))}<small>{photos(count)}</small></li>"
        for method, facts in summary["methods"].items()
        for flag, count in facts["flags"].items()
    )
    lists = (
        (f"Photos that could not be evaluated ({len(summary['failed'])})", _listed(failed)),
        (f"Problems ({len(summary['problems'])})", _listed(problems)),
        (f"Flagged maps ({sum(sum(m['flags'].values()) for m in summary['methods'].values())})", flags),
    )
    found = tuple(f'<h3>{text(title)}</h3><ul class="wrong">{items}</ul>' for title, items in lists if items)
    return found or ("<p>Nothing.</p>",)


def _meant(flag: str) -> str:
    """A flag of a metric's or an explanation's in words."""
    return catalogue.FLAGS.get(flag) or flag_text(flag)


def _listed(groups: Mapping[str, list[str]]) -> str:
    """What is said, and of how many and which; the first fifty of either."""
    items = []
    for said, every in list(groups.items())[:NAMED]:
        names = [name for name in every if name]
        more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
        which = f"<small>{len(names)}: {', '.join(map(text, names[:NAMED]))}{more}</small>" if names else ""
        items.append(f"<li>{text(said)}{which}</li>")
    if len(groups) > NAMED:
        items.append(f"<li>and {len(groups) - NAMED} other things</li>")
    return "".join(items)


def _meaning(summary: Summary) -> str:
    items = "".join(
        f"<dt>{text(m['label'])} <small>{ARROWS[m['better']]}</small></dt>"
        f"<dd>{text(DEFINITIONS.get(name, ''))} {linked(m['source'])}.</dd>"
        for name, m in summary["metrics"].items()
    )
    return f'<dl class="meaning">{items}</dl>' if items else ""
