"""What the documentation says is so: its samples run, its commands parse, its errors exist, its site builds."""

import ast
import asyncio
import json
import os
import re
import shlex
import subprocess
import sys
import textwrap
from contextlib import redirect_stderr, redirect_stdout
from html import unescape
from io import StringIO
from pathlib import Path

import cv2
import onnx
import pytest
import typer

from fusioncam.export import export_model, single_graph
from fusioncam.manifest import SINGLE_GRAPH
from fusioncam.runtime.commands import app as cli
from fusioncam.runtime.demo import MODEL
from fusioncam.runtime.demo.scenes import draw_scene

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
FROM_NOTHING = ("index.md", "tutorial.md")  # what a reader types along from the first line on; others find files there
SERVICE, TRITON, KSERVE = (DOCS / "deploy" / f"{name}.md" for name in ("service", "triton", "kserve"))  # ask a server
FENCE = re.compile(r"^(?:<!-- not run: (?P<why>.+) -->\n+)?( *)```(?P<kind>[a-z]+)\n(?P<text>.*?)^\2```$", re.M | re.S)


def blocks(page, *kinds):
    """The blocks of a page of some kinds, and why they are not run, if they are not."""
    found = FENCE.finditer(page.read_text(encoding="utf-8"))
    return [(f["kind"], textwrap.dedent(f["text"]), f["why"]) for f in found if f["kind"] in kinds]


def named(pages):
    return [pytest.param(page, id=page.relative_to(DOCS).as_posix()) for page in pages]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory, target_bundle, small_detector):
    """A folder with what samples speak of."""
    folder = tmp_path_factory.mktemp("docs")
    for name in ("photo.png", "photo.jpg"):
        cv2.imwrite(str(folder / name), draw_scene(1, (120, 160)).image[..., ::-1])
    (folder / "model.onnx").write_bytes(MODEL.read_bytes())
    export_model(folder / "model.onnx", folder / "model.fcam", single=True, unrolled=8)
    model = onnx.load(MODEL)
    for axis, name in zip(model.graph.input[0].type.tensor_type.shape.dim[2:], ("height", "width"), strict=True):
        axis.dim_param = name
    onnx.save(model, folder / "any.onnx")
    export_model(folder / "any.onnx", folder / "any.fcam", size=("any", 96, 96))
    export_model(target_bundle("segment").bundle.with_suffix(".onnx"), folder / "segmenter.fcam", single=True)
    (folder / "detector.fcam").mkdir()
    (folder / "detector.fcam" / SINGLE_GRAPH).write_bytes(single_graph(small_detector.bundle))
    return folder


def run_command(line, monkeypatch):
    """What a command line of ours prints, both streams together, and its exit status."""
    said = StringIO()
    monkeypatch.setattr(sys, "argv", shlex.split(line))
    with redirect_stdout(said), redirect_stderr(said), pytest.raises(SystemExit) as ended:
        cli.main()
    return said.getvalue(), ended.value.code


def plain(text):
    """Without what differs from run to run and machine to machine: seconds, megabytes, what is left by rounding."""
    text = re.sub(r"\b\d\.\de-\d+|\b\d+\.\d(?= s\b)", "#", text)
    text = re.sub(r"^(\S+ +\d+ x \d+ x \d+ +\d+) +\d+\.\d +\d+", r"\1 # #", text, flags=re.M)  # of inspect
    return [" ".join(line.split()) for line in text.splitlines()]


@pytest.mark.parametrize(
    "page", named(p for p in PAGES if blocks(p, "python", "console") and p not in (SERVICE, TRITON))
)
def test_samples_run_and_print_what_is_shown(page, prepared, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path if page.name in FROM_NOTHING else prepared)
    names = {}
    for kind, text, why in blocks(page, "python", "console"):
        if why is not None:
            continue
        if kind == "python":
            with redirect_stdout(StringIO()):
                exec(compile(text, page.name, "exec"), names)
            continue
        for command in re.split(r"^\$ ", text, flags=re.M)[1:]:
            line, _, shown = command.partition("\n")
            said, status = run_command(line, monkeypatch)
            assert plain(said) == plain(shown)
            assert (status != 0) == shown.startswith("error:")


def test_the_sample_for_fastapi_answers(prepared, monkeypatch):
    pytest.importorskip("fastapi")
    httpx = pytest.importorskip("httpx")

    async def post(app, address, picture):
        client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://docs")
        async with app.router.lifespan_context(app), client:
            return await client.post(address, files={"image": picture})

    monkeypatch.chdir(prepared)
    (text,) = [text for _, text, _ in blocks(DOCS / "reference" / "python.md", "python") if "FastAPI" in text]
    photo, statuses = Path("photo.jpg").read_bytes(), []
    for seconds, picture, address in (
        (60, photo, "/explain"), (60, photo, "/explain?label=star"), (60, photo, "/explain?label=none"),
        (60, b"no picture", "/explain"), (0, photo, "/explain"),
    ):  # fmt: skip
        names = {}
        exec(compile(text.replace("timeout(60)", f"timeout({seconds})"), "python.md", "exec"), names)
        answer = asyncio.run(post(names["app"], address, picture))
        statuses.append(answer.status_code)
        assert ("fusion_cam" in answer.json()) == (answer.status_code == 200), answer.text
    assert statuses == [200, 200, 400, 400, 504]


def test_samples_for_triton_are_python():
    for _, text, _ in blocks(TRITON, "python"):
        compile(text, TRITON.name, "exec")


@pytest.fixture
def service(prepared):
    """Where a service of the prepared model listens, by the places that the page names."""
    pytest.importorskip("fastapi")
    pytest.importorskip("prometheus_client")
    line = [sys.executable, "-m", "fusioncam", "serve", "model.fcam", "--port", "0", "--grpc-port", "0", "--json"]
    with subprocess.Popen(line, cwd=prepared, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            said = "".join(iter(process.stdout.readline, "}\n"))
            said = json.loads(said + "}")
            places = {"127.0.0.1:8000": said["address"].removeprefix("http://"), "127.0.0.1:8001": said["grpc_address"]}
            yield lambda text: re.sub("|".join(places), lambda found: places[found[0]], text)
        finally:
            process.terminate()


def test_the_clients_of_the_service_page_are_answered(service, prepared):
    pytest.importorskip("tritonclient.http")
    for _, text, _ in blocks(SERVICE, "python"):
        # In a process of its own: gevent would have its way with this one.
        line = [sys.executable, "-c", service(text)]
        ran = subprocess.run(line, cwd=prepared, capture_output=True, text=True, check=False)
        assert ran.returncode == 0, ran.stderr
        assert "(96, 96)" in ran.stdout
    assert "the map (96, 96)" in ran.stdout


def test_the_curl_lines_of_the_pages_are_answered(service, prepared, tmp_path):
    (tmp_path / "photo.jpg").write_bytes((prepared / "photo.jpg").read_bytes())
    lines = [text for page in (SERVICE, KSERVE) for _, text, _ in blocks(page, "bash") if "models/model" in text]
    said = subprocess.run(
        ["bash", "-e", "-c", service("".join(lines))],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert said.returncode == 0, said.stderr
    assert said.stdout.startswith("event: maps")
    assert "verdict" in json.loads((tmp_path / "answer.json").read_text())["parameters"]
    assert "not_explained" in json.loads((tmp_path / "unsure.json").read_text())["parameters"]
    assert list(json.loads((tmp_path / "explanation.json").read_text())) == ["predictions", "explanations"]
    assert list(json.loads((tmp_path / "prediction.json").read_text())) == ["predictions"]
    begins = {"overlay.png": b"\x89PNG", "panel.png": b"\x89PNG", "overlay.webp": b"RIFF", "maps.npz": b"PK"}
    assert {name: (tmp_path / name).read_bytes()[: len(magic)] for name, magic in begins.items()} == begins
    assert "fusioncam-label: " in (tmp_path / "headers.txt").read_text()


def commands():
    """Every line that calls fusioncam, of the documentation and of the README."""
    for page in (*PAGES, ROOT / "README.md"):
        for _, text, _ in blocks(page, "bash", "console"):
            for line in text.replace("\\\n", " ").splitlines():
                if line.removeprefix("$ ").startswith("fusioncam "):
                    yield pytest.param(line.removeprefix("$ "), id=f"{page.stem}: {line.strip()}")


@pytest.mark.parametrize("line", list(commands()))
def test_commands_that_are_shown_parse(line):
    _, name, *arguments = shlex.split(line, comments=True)
    group = typer.main.get_command(cli.app)
    assert name in group.commands
    group.commands[name].make_context(name, arguments)


@pytest.mark.parametrize("page", named(p for p in PAGES if blocks(p, "json")))
def test_json_that_is_shown_can_be_read(page):
    for _, text, _ in blocks(page, "json"):
        json.loads(text)


def test_the_protocol_page_names_what_the_service_knows():
    pytest.importorskip("fastapi")
    pytest.importorskip("prometheus_client")
    from fusioncam.runtime.service.http.app import make_app
    from fusioncam.runtime.service.protocol.outputs import NO_MAPS
    from fusioncam.runtime.service.protocol.parameters import PARAMETERS
    from fusioncam.runtime.service.protocol.prepared_request import INPUTS
    from fusioncam.runtime.service.service import Service

    page = (DOCS / "reference" / "protocol.md").read_text(encoding="utf-8")
    routes = [route for path in make_app(Service.of({})).openapi()["paths"].values() for route in path.values()]
    statuses = {status for route in routes for status in route["responses"]}
    assert [n for n in (*INPUTS, *NO_MAPS, *PARAMETERS) if f"`{n}`" not in page] == []
    assert [s for s in statuses if not re.search(rf"^\| (\d+, )*{s}[ ,]", page, re.M)] == []


@pytest.fixture(scope="module")
def texts():
    """The texts of the source, with a blank where something is filled in."""
    found = set()
    for folder in ("fusioncam", "export", "runtime", "kernels"):
        for file in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if isinstance(node, ast.JoinedStr):
                    found.add("".join(str(p.value) if isinstance(p, ast.Constant) else "\0" for p in node.values))
                elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                    found.add(node.value)
    return found


def quoted():
    lines = [line for kind, text, _ in blocks(DOCS / "troubleshooting.md", "text") for line in text.splitlines()]
    return [pytest.param(line, id=line[:60]) for line in lines]


@pytest.mark.parametrize("line", quoted())
def test_errors_that_are_quoted_are_those_of_the_source(line, texts):
    pieces = [piece for piece in line.split("...") if piece.strip()]
    assert sum(map(len, pieces)) > 20
    for piece in pieces:
        assert any(piece.strip(" '") in text for text in texts), piece


def test_every_picture_is_shown_and_can_be_made_again():
    shown = {m for page in PAGES for m in re.findall(r"pictures/([\w.-]+)", page.read_text(encoding="utf-8"))}
    there = {p.name for p in (DOCS / "pictures").iterdir()}
    made = set(re.findall(r'"([\w-]+\.(?:webp|svg))": ', (DOCS / "pictures.py").read_text(encoding="utf-8")))
    made |= set(re.findall(r'"([\w-]+\.svg)": ', (DOCS / "drawing" / "diagrams.py").read_text(encoding="utf-8")))
    assert there == made >= shown
    assert sum(p.stat().st_size for p in (DOCS / "pictures").iterdir()) < 600_000


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    pytest.importorskip("mkdocs")
    pytest.importorskip("material")
    pytest.importorskip("mkdocs_jupyter")
    pytest.importorskip("mkdocstrings_handlers.python")
    pytest.importorskip("fastapi")
    folder = tmp_path_factory.mktemp("site")
    # Not --quiet: what is not said is not counted either.
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=ROOT, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert built.returncode == 0, built.stderr
    return folder


def test_the_site_builds_with_no_warning_and_loads_nothing_from_elsewhere(site):
    elsewhere = re.compile(r'<(?:script|img|iframe)[^>]+src="?(?:https?:)?//|<link[^>]+href="?(?:https?:)?//')
    pages = list(site.rglob("*.html"))
    assert len(pages) > len(PAGES) // 2
    assert [p for p in pages if elsewhere.search(p.read_text(encoding="utf-8"))] == []


def test_what_is_made_from_the_code_is_there(site):
    reference = (site / "reference" / "cli" / "index.html").read_text(encoding="utf-8")
    for name in typer.main.get_command(cli.app).commands:
        assert f'id="fusioncam-{name}"' in reference
    assert "crop_fraction" in (site / "reference" / "bundle" / "index.html").read_text(encoding="utf-8")
    assert not [p for p in site.rglob("*.html") if "&lt;!-- made:" in p.read_text(encoding="utf-8")]


NOTEBOOK = {
    "says": ("gradient agrees with central differences", "star 0.61", "Fusion-CAM is supported", "picture-5.npz"),
    "links": ("choosing", "how/budgets", "how/evaluate", "reference/python", "tutorial"),
}


def test_the_notebook_was_run_and_shows_its_pictures(site):
    folder = site / "notebooks" / "first_hour"
    page = (folder / "index.html").read_text(encoding="utf-8")
    text = unescape(re.sub(r"<[^>]+>", "", page))
    assert [words for words in NOTEBOOK["says"] if words not in text] == []
    assert len(re.findall(r'<img[^>]+src="data:image/png;base64,', page)) == 6
    for link in NOTEBOOK["links"]:
        assert f'href="../../{link}/"' in page
        assert (site / link / "index.html").exists()
