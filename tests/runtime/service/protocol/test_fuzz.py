"""A short run of `benchmarks/fuzz.py requests`, and that it sees what is wrong."""

import asyncio
import importlib
import sys
from pathlib import Path

import pytest

from fusioncam.runtime.service.http.app import make_app
from fusioncam.runtime.service.service import Service
from fusioncam.runtime.service.settings import Settings

BENCHMARKS = Path(__file__).resolve().parents[4] / "benchmarks"


@pytest.fixture
def fuzz(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    yield importlib.import_module("fuzz.requests")
    for name in ("fuzz", "fuzz.requests", "fuzz.request_mutations"):
        sys.modules.pop(name, None)


def test_mutated_requests_end_in_a_clear_answer(fuzz, tiny):
    found = asyncio.run(fuzz.run(tiny.bundle, 120, 1))
    assert found["failures"] == []
    assert sum(found["statuses"].values()) == 120
    assert {200, 400} <= set(found["statuses"])


def test_it_sees_tracebacks_and_answers_that_change(fuzz, told, explainer):
    async def act(job):
        if len(told.jobs) > 3:
            raise ZeroDivisionError

    told.act = act
    app = make_app(Service.of({"m": told}, Settings(page=False)))
    failures = asyncio.run(fuzz.attack(app, explainer.manifest.preprocessing.size, 24, 1))["failures"]
    assert any("status 500" in line for line in failures)
    assert any("ZeroDivisionError" in line for line in failures)
    assert any("answered otherwise than before" in line for line in failures)
