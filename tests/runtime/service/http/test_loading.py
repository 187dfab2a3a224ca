"""The service before its models are loaded, through the whole life of an ASGI server."""

import asyncio
import threading
from contextlib import asynccontextmanager

import httpx
import pytest
from fastapi import FastAPI

from fusioncam.errors import BundleError
from fusioncam.runtime.service.http.loading import LoadingApp


class Life:
    """Starts and ends an application as a server would."""

    def __init__(self, app):
        self._app, self._inbox, self.said = app, asyncio.Queue(), asyncio.Queue()

    async def __aenter__(self):
        self._task = asyncio.create_task(self._app({"type": "lifespan"}, self._inbox.get, self.said.put))
        await self._inbox.put({"type": "lifespan.startup"})
        assert (await self.said.get())["type"] == "lifespan.startup.complete"
        return httpx.AsyncClient(transport=httpx.ASGITransport(self._app), base_url="http://service")

    async def __aexit__(self, *_):
        await self._inbox.put({"type": "lifespan.shutdown"})
        assert (await asyncio.wait_for(self.said.get(), 30))["type"] == "lifespan.shutdown.complete"
        await self._task


@pytest.fixture
def inner():
    """An application that keeps what happens to it."""
    seen = []

    @asynccontextmanager
    async def lifespan(_):
        seen.append("begins")
        yield
        seen.append("ends")

    app = FastAPI(lifespan=lifespan)
    app.get("/v2/health/ready")(lambda: {"ready": True})
    app.get("/v2/health/live")(lambda: {"live": True})
    return app, seen


def test_alive_at_once_and_ready_when_loaded(inner):
    app, seen = inner
    may, opened = threading.Event(), asyncio.Event()

    async def live():
        opening = LoadingApp(lambda: may.wait(30) and app, opened.set)
        async with Life(opening) as client:
            assert (await client.get("/v2/health/live")).json() == {"live": True}
            for path in ("/v2/health/ready", "/v2/models/any/infer"):
                early = await client.get(path)
                assert (early.status_code, early.headers["Retry-After"]) == (503, "1")
                assert early.json() == {"error": "the models are being loaded; ask again soon"}
            assert seen == []
            may.set()
            await opened.wait()
            assert (await client.get("/v2/health/ready")).json() == {"ready": True}
            assert (await client.get("/v2/health/live")).json() == {"live": True}
            assert seen == ["begins"]
        assert opening.error is None

    asyncio.run(live())
    assert seen == ["begins", "ends"]


def test_where_others_answer_requests_wait_until_it_is_ready(inner):
    app, seen = inner
    opened = asyncio.Event()

    async def live():
        async with Life(LoadingApp(lambda: app, opened.set, at_once=False)) as client:
            assert opened.is_set()
            assert (await client.get("/v2/health/ready")).json() == {"ready": True}

    asyncio.run(live())
    assert seen == ["begins", "ends"]


@pytest.mark.parametrize("at_once", [True, False])
def test_what_cannot_be_loaded_is_kept(at_once):
    opened = asyncio.Event()

    def fail():
        raise BundleError("no")

    async def live():
        opening = LoadingApp(fail, opened.set, at_once)
        async with Life(opening) as client:
            await opened.wait()
            assert (await client.get("/v2/health/ready")).status_code == 503
        assert isinstance(opening.error, BundleError)

    asyncio.run(live())


def test_a_service_that_ends_while_it_loads_waits_for_nobody(inner):
    app, seen = inner
    begun, may, loaded = threading.Event(), threading.Event(), threading.Event()

    def load():
        begun.set()
        assert may.wait(30)
        loaded.set()
        return app

    async def live():
        async with Life(LoadingApp(load, lambda: None)):
            assert await asyncio.to_thread(begun.wait, 30)
        assert not loaded.is_set()
        may.set()
        assert await asyncio.to_thread(loaded.wait, 30)

    asyncio.run(live())
    assert seen == []
