"""What the service gives to the page."""

import asyncio
import re
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("fastapi")
import httpx
from fastapi import FastAPI

from fusioncam.runtime.methods import EVERY
from fusioncam.runtime.picture import DEFAULT_COLORMAP, color_table
from fusioncam.runtime.service import page

FILES = sorted(file.name for file in page.STATIC.iterdir())


def get(path):
    """What the page's part of a service answers."""
    app = FastAPI()
    page.mount_page(app)

    async def ask():
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://service") as client:
            return await client.get(path)

    return asyncio.run(ask())


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


def test_samples_are_listed_and_given():
    samples = page.drawn_samples()
    assert get("/samples").json() == [{"name": name, "url": f"samples/{n}"} for n, name in enumerate(samples)]
    for n, data in enumerate(samples.values()):
        answer = get(f"/samples/{n}")
        assert answer.content == data
        assert data.startswith(b"\x89PNG")
        assert answer.headers["content-type"] == "image/png"
    assert {get(f"/samples/{number}").status_code for number in (str(len(samples)), "-1", "x")} == {404}


def test_the_files_are_installed_with_the_package():
    assert Path(page.__file__).parent / "static" == page.STATIC
    assert {"index.html", "app.js", "style.css", "icon.svg"} <= set(FILES)
