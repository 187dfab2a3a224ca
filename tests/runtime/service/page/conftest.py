"""A service in a thread, and a browser that looks at its page: one of each for a module."""

import base64
import os
import shutil
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from fusioncam.export import export_model
from fusioncam.output import encode_png
from fusioncam.runtime.demo import MODEL
from fusioncam.runtime.demo.scenes import sample_picture
from fusioncam.runtime.explainer import Explainer

CHROMES = ("chromium", "chromium-browser", "google-chrome")
CROP = {"size": (24, 32), "rescale": 1 / 255, "mean": (0.5,) * 3, "std": (0.25,) * 3, "resize": "crop"}


class Service:
    """The service on a free port, in a thread.

    Attributes:
        explainers: By the names of their models.
        url: Of the page.
    """

    def __init__(self, bundles, **settings):
        uvicorn = pytest.importorskip("uvicorn")
        pytest.importorskip("fastapi")
        from fusioncam.runtime.service.batching.batcher import Batcher
        from fusioncam.runtime.service.http.app import make_app
        from fusioncam.runtime.service.service import Service
        from fusioncam.runtime.service.settings import Settings

        self.explainers = {name: Explainer(bundle) for name, bundle in bundles.items()}
        batchers = {name: Batcher(name, lambda e=e: e.pipeline) for name, e in self.explainers.items()}
        app = make_app(Service.of(batchers, Settings(**settings)))
        self._server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, ws="none"))
        self._thread = threading.Thread(target=self._server.run)
        self._thread.start()
        while not self._server.started:
            assert self._thread.is_alive()
            time.sleep(0.01)
        self.url = f"http://127.0.0.1:{self._server.servers[0].sockets[0].getsockname()[1]}/"

    def stop(self):
        self._server.should_exit = True
        self._thread.join()


@pytest.fixture(scope="session")
def bundles(tmp_path_factory, make_tiny):
    """The demo's model, which sees whole photos, and a tiny one that sees the middle and has no labels."""
    folder = tmp_path_factory.mktemp("page")
    export_model(MODEL, folder / "shapes.fcam")
    model = make_tiny().network.write(folder / "tiny.onnx")
    export_model(model, folder / "middle.fcam", layer="layer", preprocessing={**CROP, "crop_fraction": 0.875})
    return {"shapes": folder / "shapes.fcam", "middle": folder / "middle.fcam"}


@pytest.fixture(scope="module")
def service(bundles):
    running = Service(bundles)
    yield running
    running.stop()


@pytest.fixture(scope="module")
def guarded(bundles, scene):
    """A service that wants the token `open-sesame`, takes small requests only, and has a sample and its own budget."""
    settings = {"token": "open-sesame", "max_body": 200_000, "samples": scene.parent, "budget": "64"}
    running = Service({"middle": bundles["middle"]}, **settings)
    yield running
    running.stop()


@pytest.fixture(scope="module")
def browser():
    # Not for the whole session: as long as it runs, no other test of this thread can have a loop of asyncio.
    found = next(filter(None, map(shutil.which, CHROMES)), None)
    if found is None:
        pytest.skip(f"there is no browser: none of {', '.join(CHROMES)}")
    with pytest.importorskip("playwright.sync_api").sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield running
        running.close()


@pytest.fixture
def look(browser):
    """Opens the page of a service in a window of its own; nothing may go wrong in it, nor leave the service."""
    contexts, wrong = [], []

    def look(url, width=1280, height=800, **options):
        home = url.partition("#")[0]
        context = browser.new_context(viewport={"width": width, "height": height}, **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(15_000)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda m: wrong.append(m.text) if "Content Security Policy" in m.text else None)
        page.on("request", lambda r: None if r.url.startswith((home, "blob:" + home)) else wrong.append(r.url))
        page.goto(url)
        return page

    yield look
    for context in contexts:
        context.close()
    assert not wrong


@pytest.fixture(scope="session")
def settled():
    """Waits until the page has done what it was asked for."""
    return lambda page: page.wait_for_selector('#tiles[aria-busy="false"]', state="attached")


@pytest.fixture
def same_maps(tmp_path):
    """Asserts that the maps that the page saves are those of an explanation."""

    def same_maps(page, wanted):
        with page.expect_download() as download:
            page.click("#save-maps")
        download.value.save_as(tmp_path / "maps.npz")
        with np.load(tmp_path / "maps.npz") as maps:
            for method in ("fusion_cam", "grad_cam", "score_cam"):
                np.testing.assert_allclose(maps[method], wanted.maps[method], atol=1e-5)

    return same_maps


@pytest.fixture(scope="session")
def drawn():
    """What the page shows of a method, or of the photo (""), as (H, W, 3) RGB."""

    def drawn(page, method):
        url = page.locator(f'.tile[data-method="{method}"] canvas').evaluate("canvas => canvas.toDataURL()")
        data = np.frombuffer(base64.b64decode(url.partition(",")[2]), np.uint8)
        return cv2.cvtColor(cv2.imdecode(data, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)

    return drawn


@pytest.fixture(scope="session")
def scene(tmp_path_factory):
    """The demo's picture, not square, as a PNG file."""
    path = tmp_path_factory.mktemp("photos") / "scene.png"
    path.write_bytes(encode_png(sample_picture((300, 420)).image))
    return path


@pytest.fixture(scope="session")
def artifacts():
    """The folder where screenshots are kept."""
    folder = Path(os.environ.get("FUSIONCAM_ARTIFACTS", Path(__file__).parents[4] / "artifacts"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def run_service():
    """Runs a service: its bundles by the names of models, and settings."""
    return Service


@pytest.fixture(scope="session")
def grave():
    """What axe-core finds serious or critical on a page."""

    def grave(page):
        axe = pytest.importorskip("axe_playwright_python.sync_playwright")
        found = axe.Axe().run(page).response["violations"]
        return [f"{v['id']}: {n['html']}" for v in found if v["impact"] in ("serious", "critical") for n in v["nodes"]]

    return grave
