"""The form of the source: docstrings have words enough and open well, functions and files stay short."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ("export", "fusioncam", "kernels", "runtime")
FEWEST_WORDS = 4
OPENINGS = {"what", "which", "whether", "who", "how", "where", "when", "why"}
MOST_FUNCTION_LINES, MOST_FILE_LINES = 60, 320
Function = ast.FunctionDef | ast.AsyncFunctionDef


def files(*folders):
    """Return the Python files of some folders, without those behind the links in fusioncam/."""
    paths = (path for folder in folders for path in sorted((ROOT / folder).rglob("*.py")))
    return [path for path in paths if not any(parent.is_symlink() for parent in path.parents)]


def nodes(path, kinds):
    """Return (qualified name, node) of each node of some kinds in a file."""

    def below(node, prefix):
        for child in ast.iter_child_nodes(node):
            named = isinstance(child, ast.ClassDef | Function)
            name = f"{prefix}.{child.name}" if named else prefix
            if isinstance(child, kinds):
                yield name, child
            yield from below(child, name)

    tree = ast.parse(path.read_text(encoding="utf-8"))
    name = path.relative_to(ROOT).as_posix()
    return ([(name, tree)] if ast.Module in kinds else []) + list(below(tree, name))


def faults(docstring):
    """Return the fault of the beginning of a docstring, or None."""
    words = re.findall(r"[\w'`]+", docstring.strip())
    if len(words) < FEWEST_WORDS:
        return f"has {len(words)} words"
    return f"opens with {words[0]!r}" if words[0].lower() in OPENINGS else None


def test_docstrings_have_four_words_and_open_with_no_question_word():
    found = []
    for path in files(*SOURCE, "benchmarks", "docs"):
        for name, node in nodes(path, (ast.Module, ast.ClassDef, *Function.__args__)):
            docstring = ast.get_docstring(node)
            if docstring is not None and (fault := faults(docstring)) is not None:
                found.append(f"{name} {fault}: {docstring.splitlines()[0]}")
    assert not found, "\n" + "\n".join(found)


@pytest.mark.parametrize(
    ("docstring", "fault"),
    [
        ("In pixels.", "has 2 words"),
        ("Which channels to score next.", "opens with 'Which'"),
        ("whether the layer is bypassed.", "opens with 'whether'"),
        ("Return the scores of all live channels, (n, T).", None),
        ("Whatever is left is dropped.", None),
    ],
)
def test_a_short_docstring_or_a_question_word_is_a_fault(docstring, fault):
    assert faults(docstring) == fault


def test_functions_are_short():
    long = [
        f"{name} has {node.end_lineno - node.lineno + 1} lines"
        for path in files(*SOURCE, "tests", "benchmarks", "docs")
        for name, node in nodes(path, Function.__args__)
        if node.end_lineno - node.lineno + 1 > MOST_FUNCTION_LINES
    ]
    assert not long, "\n" + "\n".join(long)


def test_files_are_short():
    lengths = {
        path: len(path.read_text(encoding="utf-8").splitlines()) for path in files(*SOURCE, "tests", "benchmarks")
    }
    long = [f"{path.relative_to(ROOT)} has {lines} lines" for path, lines in lengths.items() if lines > MOST_FILE_LINES]
    assert not long, "\n" + "\n".join(long)
