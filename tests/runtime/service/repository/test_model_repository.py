"""Models found on disk, and changed while requests run."""

import asyncio
import gc
import shutil
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import pytest

from fusioncam import Explainer
from fusioncam.errors import BundleError, FusionCamError
from fusioncam.runtime.service.batching.batcher import Batcher
from fusioncam.runtime.service.errors import UnknownModelError
from fusioncam.runtime.service.http.app import make_app
from fusioncam.runtime.service.repository.layout import bundles_by_version
from fusioncam.runtime.service.repository.model_repository import Change, ModelRepository
from fusioncam.runtime.service.service import Service
from fusioncam.runtime.service.settings import Settings

LOAD, UNLOAD = "/v2/repository/models/pets/load", "/v2/repository/models/pets/unload"
INFER = "/v2/models/pets/infer"
TOKEN = {"Authorization": "Bearer s3cret"}


@pytest.fixture(scope="module")
def other(make_tiny):
    """A bundle of the same input as that of `tiny`, with other weights."""
    return make_tiny(lambda weights: weights["w3"].__imul__(-1), zero=(2,)).bundle


@pytest.fixture
def folder(tmp_path, tiny):
    """A folder with version 1 of a model."""
    shutil.copytree(tiny.bundle, tmp_path / "pets" / "1")
    return tmp_path / "pets"


def put(bundle, place):
    """Replace a bundle as a whole: weights are mapped into memory, and must not change under a session."""
    shutil.copytree(bundle, place.with_name("new"))
    if place.exists():
        place.rename(place.with_name("old"))
        shutil.rmtree(place.with_name("old"))
    place.with_name("new").rename(place)


def batchers():
    """The number of open bundles: each has a thread."""
    return sum(thread.name == "batcher of pets" for thread in threading.enumerate())


def open_batcher(name, bundle):
    return Batcher(name, lambda: Explainer(bundle).pipeline)


def repository(**sources):
    return ModelRepository(sources, open_batcher)


def closing(scenario):
    """Run a scenario, which gets a function to open repositories; they are closed in the end."""

    async def run():
        opened = []

        def open_repository(**sources):
            opened.append(repository(**sources))
            return opened[-1]

        try:
            await scenario(open_repository)
        finally:
            for each in opened:
                await each.close()

    asyncio.run(run())


class TestLayout:
    def test_a_bundle_is_version_1_and_a_folder_has_those_with_numbers(self, tiny, tmp_path):
        assert bundles_by_version(tiny.bundle) == {"1": tiny.bundle}
        for name in ("10", "9", "2", "01", "0", "x", "config.pbtxt"):
            (tmp_path / name).mkdir()
        (tmp_path / "3").write_text("a file")
        assert list(bundles_by_version(tmp_path)) == ["2", "9", "10"]

    def test_a_folder_of_neither_says_so(self, tmp_path):
        with pytest.raises(BundleError, match=r"it holds no manifest.json, nor bundles in folders named 1, 2, \.\.\.;"):
            bundles_by_version(tmp_path)


class TestChanges:
    def test_a_new_version_is_the_newest_and_the_old_ones_stay_open(self, folder, other):
        async def scenario(open_repository):
            found = open_repository(pets=folder)
            first = found.find("pets")
            put(other, folder / "2")
            await found.make(Change("load", "pets"))
            assert found.versions("pets") == ("1", "2")
            assert found.find("pets", "1") is first
            assert (found.find("pets").version, found.find("pets").batcher.ready) == ("2", True)
            with pytest.raises(UnknownModelError, match="model 'pets' has versions 1, 2, not '3'"):
                found.find("pets", "3")
            shutil.rmtree(folder / "1")
            await found.make(Change("load", "pets"))
            await asyncio.gather(*found._closing)
            assert found.versions("pets") == ("2",)
            assert not first.batcher.ready

        closing(scenario)

    def test_what_did_not_change_stays_and_what_did_is_freed(self, folder, other):
        async def scenario(open_repository):
            found = open_repository(pets=folder)
            first = found.find("pets")
            await found.make(Change("load", "pets"))
            assert found.find("pets") is first
            put(other, folder / "1")
            await found.make(Change("load", "pets"))
            assert found.find("pets") is not first
            session = weakref.ref(first.batcher.pipeline.preferred)
            first = None
            await asyncio.gather(*found._closing)
            gc.collect()
            assert session() is None

        closing(scenario)

    def test_a_broken_bundle_leaves_all_as_it_was_and_nothing_open(self, folder, other, tiny):
        async def scenario(open_repository):
            found = open_repository(pets=folder)
            first = found.find("pets")
            put(other, folder / "2")
            put(tiny.bundle, folder / "3")
            (folder / "3" / "weights.bin").write_bytes(b"")
            with pytest.raises(FusionCamError, match=r"model 'pets' stays as it was: .*weights.bin was changed"):
                await found.make(Change("load", "pets"))
            assert found.find("pets") is first
            assert batchers() == 1
            shutil.rmtree(folder)
            with pytest.raises(FusionCamError, match=r"model 'pets' stays as it was: .* is no bundle"):
                await found.make(Change("load", "pets"))
            assert first.batcher.ready

        closing(scenario)

    def test_an_unloaded_model_is_listed_and_can_be_loaded_again(self, folder, tiny):
        async def scenario(open_repository):
            found = open_repository(pets=folder, m=tiny.bundle)
            await found.make(Change("unload", "pets"))
            with pytest.raises(UnknownModelError, match="model 'pets' is not there: it was unloaded; load it"):
                found.find("pets")
            said = [(e.name, e.version, e.state, e.reason) for e in found.index()]
            assert said == [("pets", "", "UNAVAILABLE", "it was unloaded"), ("m", "1", "READY", "")]
            assert [e.name for e in found.index(ready=True)] == ["m"]
            await found.make(Change("load", "pets"))
            assert found.find("pets").batcher.ready
            with pytest.raises(UnknownModelError, match="there is no model 'dogs'; there are pets, m"):
                await found.make(Change("load", "dogs"))

        closing(scenario)

    def test_a_staged_change_that_is_dropped_leaves_no_trace(self, folder, other):
        async def scenario(open_repository):
            found = open_repository(pets=folder)
            first = found.find("pets")
            put(other, folder / "2")
            await found.stage(Change("load", "pets"))
            found.drop()
            await asyncio.gather(*found._closing)
            assert (found.find("pets"), found.versions("pets")) == (first, ("1",))
            assert batchers() == 1

        closing(scenario)


@pytest.fixture
def running(folder, serving):
    """A client of the service of a model in versions, with a token."""
    service = Service(repository(pets=folder), Settings(page=False, token="s3cret"))
    with serving(make_app(service)) as address, httpx.Client(base_url=f"http://{address}", headers=TOKEN) as client:
        yield client


def test_no_request_is_lost_while_bundles_are_replaced(running, folder, tiny, other, request_of, x):
    """Each answer is that of one bundle or the other, and the new one's from the answer to `load` on."""
    maps = [Explainer(bundle).explain(x).maps["fusion_cam"] for bundle in (tiny.bundle, other)]
    asked = request_of(parameters={"method": "fusion_cam", "budget": "exact"})

    def ask(_=None):
        answer = running.post(INFER, json=asked, timeout=60)
        assert answer.status_code == 200, answer.text
        said = answer.json()
        made = np.array(said["outputs"][0]["data"], np.float32).reshape(24, 32)
        (bundle,) = [n for n, wanted in enumerate(maps) if np.array_equal(made, wanted)]
        return bundle, said["model_version"]

    assert not np.array_equal(*maps)
    with ThreadPoolExecutor(8) as pool:
        for turn in range(4):
            begun = [pool.submit(ask) for _ in range(24)]
            put((other, tiny.bundle)[turn % 2], folder / "1")
            assert running.post(LOAD, timeout=60).json() == [
                {"name": "pets", "version": "1", "state": "READY", "reason": ""}
            ]
            assert ask() == ((1, "1"), (0, "1"))[turn % 2]
            assert {each.result()[1] for each in begun} == {"1"}


def test_changes_over_http(running, folder, other, request_of):
    put(other, folder / "7")
    assert [e["version"] for e in running.post(LOAD).json()] == ["1", "7"]
    assert running.get("/v2/models/pets").json()["versions"] == ["1", "7"]
    for path, version in (("", "7"), ("/versions/1", "1"), ("/versions/7", "7")):
        assert running.post(f"/v2/models/pets{path}/infer", json=request_of()).json()["model_version"] == version
    (folder / "7" / "manifest.json").write_text("{")
    broken = running.post(LOAD)
    assert broken.status_code == 409
    assert broken.json()["error"].startswith("model 'pets' stays as it was: ")
    assert [e["state"] for e in running.post(UNLOAD).json()] == ["UNAVAILABLE"]
    assert running.post(INFER, json=request_of()).status_code == 404
    assert running.get("/v2/health/ready").status_code == 200
    assert running.post("/v2/repository/index", json={"ready": True}).json() == []


BAD = {
    "no token": ({"headers": {"Authorization": ""}}, 401, "give the service's token"),
    "a configuration": ({"json": {"parameters": {"config": "{}"}}}, 400, "a client cannot give 'config': put the"),
    "files": ({"json": {"parameters": {"file:1/model.onnx": "AAAA"}}}, 400, "a client cannot give 'file:1/model.onnx'"),
    "a large body": ({"content": bytes(70_000)}, 413, "more than 65,536 bytes"),
    "no JSON": ({"content": b"{"}, 400, "the request's JSON cannot be read"),
    "a list": ({"json": [1]}, 400, "the body must be empty, or an object of JSON"),
}


def test_changes_that_are_refused(running, asking):
    for sent, status, message in BAD.values():
        answer = running.post(LOAD, **sent)
        assert (answer.status_code, message in answer.json()["error"]) == (status, True), answer.text
    answer = asking().post("/v2/repository/models/m/load")  # a service without a token
    assert answer.status_code == 403
    assert "start the service with --token-file" in answer.json()["error"]
