"""What the service gives to the page."""

import asyncio
import re
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("fastapi")
import httpx
from fastapi import FastAPI
from starlette.datastructures import Headers

from fusioncam.output import encode_png
from fusioncam.runtime.methods import EVERY
from fusioncam.runtime.picture import DEFAULT_COLORMAP, color_table
from fusioncam.runtime.service import page
from fusioncam.runtime.service.http.access import refusal
from fusioncam.runtime.service.page.samples import MOST, SIDE, drawn_scenes
from fusioncam.runtime.service.settings import Settings

FILES = sorted(file.name for file in page.STATIC.iterdir())


def got(*paths, **settings):
    """What the page's part of a service answers."""
    app = FastAPI()
    page.mount_page(app, Settings(**settings))

    async def ask():
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://service") as client:
            return [await client.get(path) for path in paths]

    return asyncio.run(ask())


def get(path):
    return got(path)[0]


def test_only_the_service_itself_may_be_asked_or_loaded():
    answer = get("/")
    assert answer.status_code == 200
    policy = dict(part.split(" ", 1) for part in answer.headers["content-security-policy"].split("; "))
    assert policy.pop("default-src") == "'none'"
    assert {source for sources in policy.values() for source in sources.split()} == {"'self'", "'none'", "blob:"}
    assert policy["script-src"] == policy["connect-src"] == policy["style-src"] == "'self'"


@pytest.mark.parametrize("name", FILES)
def test_no_file_names_another_place(name):
    text = (page.STATIC / name).read_text()
    assert set(re.findall(r"https?://[^\s\"'<>]+", text)) <= {"http://www.w3.org/2000/svg"}
    answer = get(f"/page/{name}")
    assert answer.status_code == 200
    assert "content-security-policy" in answer.headers


def test_every_module_imports_what_is_there():
    for file in page.STATIC.glob("*.js"):
        assert set(re.findall(r'from "\./([^"]+)"', file.read_text())) <= set(FILES)


def test_every_part_that_is_looked_up_is_in_the_page():
    html = (page.STATIC / "index.html").read_text()
    wanted = {i for file in page.STATIC.glob("*.js") for i in re.findall(r'\$\("([^"]+)"\)', file.read_text())}
    assert wanted
    assert wanted <= set(re.findall(r'id="([^"]+)"', html))


def test_colours_names_and_flags_are_the_projects_own():
    settings = get("/page/settings").json()
    np.testing.assert_array_equal(settings["colors"], color_table(DEFAULT_COLORMAP))
    assert [m["name"] for m in settings["methods"]] == list(EVERY)
    assert {m["kind"] for m in settings["methods"]} == {"fused", "gradient", "region"}
    assert settings["flags"]["flat_layer_cam"].startswith("Layer-CAM finds")


def decoded(answer):
    return cv2.imdecode(np.frombuffer(answer.content, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]


def test_the_drawn_scenes_are_listed_and_given():
    listed, *answers = got("/samples", *(f"/samples/{n}{end}" for n in range(5) for end in ("", "/thumbnail")))
    assert [sample["name"] for sample in listed.json()] == [name for name, _ in drawn_scenes()]
    assert [sample["url"] for sample in listed.json()] == [f"samples/{n}" for n in range(5)]
    assert [answer.content for answer in answers[::2]] == [read() for _, read in drawn_scenes()]
    assert {answer.headers["content-type"] for answer in answers} == {"image/png"}
    assert {decoded(answer).shape for answer in answers[1::2]} == {(SIDE, SIDE, 3)}


def grey(n, size=(40, 90)):
    """A grey picture as a PNG file."""
    return encode_png(np.full((*size, 3), n, np.uint8))


def test_samples_of_a_folder_are_those_that_the_service_takes(tmp_path, caplog):
    for n in range(6):
        (tmp_path / f"{n % 2}").mkdir(exist_ok=True)
        (tmp_path / f"{n % 2}" / f"{n}.png").write_bytes(grey(n))
    (tmp_path / "0" / "large.png").write_bytes(grey(9, (200, 200)))
    noise = np.random.default_rng(0).integers(0, 256, (60, 90, 3), np.uint8)
    (tmp_path / "1" / "long.png").write_bytes(encode_png(noise))
    (tmp_path / "cut.jpg").write_bytes(b"\xff\xd8\xff no picture")
    (tmp_path / ".hidden.png").write_bytes(grey(10))
    (tmp_path / "notes.txt").write_text("no picture")
    limits = {"samples": tmp_path, "max_pixels": 10_000, "max_body": 4096 + 10_000}
    listed, first, thumbnail, *missing = got(
        "/samples", "/samples/0", "/samples/0/thumbnail", "/samples/6", "/samples/6/thumbnail", "/samples/-1",
        "/samples/..%2fnotes.txt", "/samples/" + "9" * 5000, **limits,
    )  # fmt: skip
    assert [sample["name"] for sample in listed.json()] == [f"{n}.png" for n in (0, 2, 4, 1, 3, 5)]
    assert first.content == grey(0)
    assert decoded(thumbnail).shape == (SIDE, SIDE, 3)
    assert {answer.status_code for answer in missing} == {404}
    assert [name in caplog.text for name in ("cut.jpg", "large.png", "long.png")] == [True] * 3
    (tmp_path / "0" / "0.png").unlink()
    assert got("/samples", **limits)[0].json()[0]["name"] == "2.png"


def test_of_many_samples_some_are_taken_from_the_whole_folder(tmp_path):
    for n in range(100):
        (tmp_path / f"{n:02}.png").write_bytes(grey(n, (2, 2)))
    names = [sample["name"] for sample in got("/samples", samples=tmp_path)[0].json()]
    assert (len(names), names[0], names[-1]) == (MOST, "00.png", "99.png")
    assert got("/samples", samples=tmp_path / "gone")[0].json() == []


@pytest.mark.parametrize("path", ["/samples", "/samples/0", "/samples/0/thumbnail"])
def test_samples_are_for_those_who_may_use_the_service(path):
    scope = {"path": path, "query_string": b"", "method": "GET"}
    assert refusal(scope, Headers({}), b"token").status_code == 401
    assert refusal(scope, Headers({"Sec-Fetch-Site": "cross-site"}), None).status_code == 403
    assert refusal(scope, Headers({"Authorization": "Bearer token"}), b"token") is None


def test_the_files_are_installed_with_the_package():
    assert Path(page.__file__).parent / "static" == page.STATIC
    assert {"index.html", "app.js", "style.css", "icon.svg"} <= set(FILES)
