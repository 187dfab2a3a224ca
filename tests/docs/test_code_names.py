"""Paths and code names of the pages for contributors exist: files move more often than pages are read."""

import ast
import re
import subprocess
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = (ROOT / "CONTRIBUTING.md", ROOT / "docs" / "how" / "architecture.md", ROOT / "README.md")
SOURCES = ("export", "runtime", "kernels", "fusioncam")

FENCE = re.compile(r"^```.*?^```", re.M | re.S)
CODE = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
PATH = re.compile(r"\.{0,2}/?[\w.-]+(/[\w.-]+)*/?")
FILE = re.compile(r"[\w-]+\.(c|cpp|cu|cuh|hpp|ini|js|json|md|onnx|py|toml|txt|yml)")
NAME = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")
OURS = re.compile(r"(?=.*_)[A-Za-z_]\w*|[A-Z][a-z]+\w*|[A-Z]{3,}")  # of plain words, those that look like code
FROM_ELSEWHERE = {"Raises", "CUDA_ROOT", "CUDADRV_LIB_DIR", "libcuda.so"}  # of docstrings, and of PyCUDA's build
ALIASES = {"s": "Step"}  # as the rules of the gradient call it


@cache
def files():
    """The files of the repository, as git knows them or would."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return [path for path in listed.stdout.splitlines() if (ROOT / path).exists()]


@cache
def folders():
    return {parent.as_posix() for path in files() for parent in Path(path).parents}


@cache
def modules():
    """The syntax tree of every Python file, by path."""
    return {p: ast.parse((ROOT / p).read_text(encoding="utf-8")) for p in files() if p.endswith(".py")}


def names_of(node):
    """The names that a node of a syntax tree gives to something."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return {node.name}
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    several = [t.elts if isinstance(t, ast.Tuple) else [t] for t in targets]
    return {getattr(t, "id", getattr(t, "attr", None)) for targets in several for t in targets} - {None}


def names_within(nodes):
    return {name for node in nodes for name in names_of(node)}


def texts_within(node):
    """The strings below a node, some of which are names: keys of tables, files of a bundle, names that are exported."""
    constants = (n.value for n in ast.walk(node) if isinstance(n, ast.Constant))
    return {value for value in constants if isinstance(value, str)}


@cache
def members():
    """The names within each class, by the name of the class."""
    classes = [n for module in modules().values() for n in ast.walk(module) if isinstance(n, ast.ClassDef)]
    inside = {c.name: set() for c in classes}
    for c in classes:
        inside[c.name] |= names_within(ast.walk(c))
    return inside


@cache
def texts():
    return set().union(*(texts_within(m) for p, m in modules().items() if p.startswith(SOURCES)))


@cache
def defined():
    """The names that stand alone: of modules' contents, of classes' members, and of what strings name."""
    return set().union(*(names_within(m.body) for m in modules().values()), *members().values(), texts())


def exists(path, nearby=()):
    """Return whether a path leads from the root or a folder `nearby` to a file or folder, or is named in the source."""
    paths = {(Path(folder) / path).as_posix().rstrip("/") for folder in ("", *nearby)}
    return bool(paths & ({*files()} | folders())) or path in texts()


def is_defined(name):
    """Return whether there is such a `function`, `Class`, `Class.member`, `module.name` or `fusioncam.module`."""
    owner, _, last = name.rpartition(".")
    if not owner:
        return name in defined()
    path, of_module = (n.removeprefix("fusioncam.").replace(".", "/") for n in (name, owner))
    owners = [m for p, m in modules().items() if p.endswith((f"{of_module}.py", f"{of_module}/__init__.py"))]
    return (
        last in members().get(ALIASES.get(owner, owner), ())
        or any(last in names_within(m.body) | texts_within(m) for m in owners)
        or any(exists(f"{folder}{path}{suffix}") for folder in ("", "fusioncam/") for suffix in ("", ".py"))
    )


def wrong(text, folder=ROOT):
    """Return the paths, links and code names of a page that lead nowhere.

    Args:
        text: The page.
        folder: Where the page lies, from which its links lead.
    """
    plain, problems = FENCE.sub("", text), []
    for line in plain.splitlines():
        nearby = [t.rstrip("/") for t in CODE.findall(line) if t.rstrip("/") in folders()]
        for token in CODE.findall(line):
            if token in FROM_ELSEWHERE:
                continue
            if PATH.fullmatch(token) and ("/" in token or FILE.fullmatch(token)):
                good = token.startswith("../") or exists(token, nearby)
            elif NAME.fullmatch(token) and ("." in token or OURS.fullmatch(token)):
                good = is_defined(token)
            else:
                good = True
            if not good:
                problems.append(token)
    problems += [link for link in LINK.findall(plain) if not leads_somewhere(link, text, folder)]
    return problems


def leads_somewhere(link, text, folder):
    if "://" in link:
        return True
    path, _, anchor = link.partition("#")
    target = folder / path
    if not anchor or not target.exists():
        return target.exists()
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", target.read_text(encoding="utf-8") if path else text), re.M)
    return anchor in {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def table(text, heading):
    """The cells of the table below a heading, a list for each row."""
    section = text.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    rows = [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("|")]
    return rows[2:]


def examples(text):
    """The examples of "Where to put a new ...": the names in the last cell, and the file that it links."""
    for *_, example in table(text, "Where to put a new ..."):
        (link,) = LINK.findall(example)
        yield CODE.findall(example), link


def missing_examples(text):
    return [(name, link) for names, link in examples(text) for name in names if name not in names_and_methods(link)]


def names_and_methods(path):
    body = modules()[path].body
    return names_within(body).union(*(names_within(node.body) for node in body if isinstance(node, ast.ClassDef)))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_paths_and_names_exist(page):
    assert wrong(page.read_text(encoding="utf-8"), page.parent) == []


def test_examples_are_in_the_files_that_are_linked():
    text = PAGES[0].read_text(encoding="utf-8")
    assert len(list(examples(text))) > 10
    assert all(names for names, _ in examples(text))
    assert missing_examples(text) == []


def test_every_room_is_in_the_table_of_rooms():
    rooms = {
        token.rstrip("/")
        for row in table(PAGES[0].read_text(encoding="utf-8"), "The rooms")
        for token in CODE.findall(row[0])
    }
    packages = {Path(p).parent.as_posix() for p in files() if re.fullmatch(r"(export|runtime)(/\w+)?/__init__\.py", p)}
    assert packages - rooms == set()


@pytest.mark.parametrize(
    "text",
    [
        "`export/gradient/rulez/`", "`runtime/cli.py`", "`nowhere.py`", "[see](runtime/engine/fusion.py)",
        "[see](CONTRIBUTING.md#no-such-heading)", "`Together`", "`Explainer.finish`", "`reference.fuse`", "`make_mapz`",
        "`fusioncam.runtime.image`", "`DERIVATIONS`", "in `kernels/`: `cudaa/`",
    ],
)  # fmt: skip
def test_a_wrong_path_or_name_is_found(text):
    assert len(wrong(text)) == 1


@pytest.mark.parametrize(
    "text",
    [
        "`export/gradient/rules/`", "`runtime/commands/app.py`", "`manifest.json`", "[see](runtime/engine/recipe.py)",
        "[see](#a-b)\n## A b", "`Scheduler`", "`Explainer.explain`", "`reference.fusion_cam`", "`make_maps`",
        "`fusioncam.runtime.read_image`", "`fusioncam.manifest`", "`DERIVATIVES`", "in `kernels/`: `cuda/`", "`x = 1`",
        "```\n`nowhere.py`\n```",
    ],
)  # fmt: skip
def test_a_right_path_or_name_is_passed(text):
    assert wrong(text) == []


def test_an_example_that_is_not_in_its_file_is_found():
    text = "## Where to put a new ...\n\n| a | b | c |\n|---|---|---|\n| x | y | `_mul` in [f](export/head.py) |\n"
    assert missing_examples(text) == [("_mul", "export/head.py")]
