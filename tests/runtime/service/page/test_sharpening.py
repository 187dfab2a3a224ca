"""Maps that the page shows while they are made, and the budget that is a time."""

import json

import numpy as np
import pytest

from fusioncam import Explainer
from fusioncam.runtime.service.protocol.tensors import Output, write_event

KEEP = """() => {
  window.asked = [];
  const { fetch } = window;
  window.fetch = async (url, options) => {
    const length = options?.headers?.["Inference-Header-Content-Length"];
    if (length) window.asked.push(await options.body.slice(0, Number(length)).text());
    return fetch(url, options);
  };
}"""  # the heads of requests
SAMPLE = "#samples button >> nth=0"


@pytest.fixture(scope="module")
def shown(bundles, scene):
    """Preliminary explanations of a scene."""
    seen = []
    Explainer(bundles["shapes"], budget="auto").explain(scene, progress_maps=seen.append)
    return seen


def event(preliminary):
    figures = {"class_index": np.array([preliminary.class_index]), "probabilities": preliminary.logits[None] * 0 + 0.25}
    outputs = [Output(name, m[None], True) for name, m in preliminary.maps.items()]
    outputs += [Output(name, values, True) for name, values in figures.items()]
    return write_event("maps", {"parameters": {"passes": preliminary.passes.run}}, outputs)


def answered(look, service, *events, **options):
    """The page of a service that answers with these events, once it was asked about a scene."""
    page = look(service.url, **options)
    page.wait_for_selector(SAMPLE)
    body = b"".join(events)
    page.route("**/infer_stream", lambda route: route.fulfill(content_type="text/event-stream", body=body))
    page.click(SAMPLE)
    page.wait_for_selector("#problem:not([hidden])")
    return page


def notes(page):
    tiles = page.locator(".tile:not([data-method=''])").all()
    return {tile.get_attribute("data-method"): tile.locator(".so-far").inner_text() for tile in tiles}


def test_a_method_that_has_no_map_yet_shows_the_best_of_the_others(look, service, shown, artifacts, drawn):
    first = answered(look, service, event(shown[0]))
    assert notes(first) == {"fusion_cam": "so far Grad-CAM", "grad_cam": "", "score_cam": "so far Grad-CAM"}
    assert (drawn(first, "fusion_cam") == drawn(first, "grad_cam")).all()
    page = answered(look, service, event(shown[0]), event(shown[-1]))
    page.screenshot(path=artifacts / "page-sharpening.png", full_page=True)
    assert notes(page) == {"fusion_cam": "so far Score-CAM", "grad_cam": "", "score_cam": "so far"}
    assert (drawn(page, "fusion_cam") == drawn(page, "score_cam")).all()
    assert (drawn(page, "grad_cam") == drawn(first, "grad_cam")).all()
    assert (drawn(page, "score_cam") != drawn(first, "score_cam")).any()
    stage = page.locator("[data-method=fusion_cam] .stage").get_attribute("aria-label")
    assert stage.startswith("Fusion-CAM: so far Score-CAM, strongest at")
    assert page.locator("[data-method=score_cam] .save").is_disabled()
    assert page.inner_text("#status") == ""  # a screen reader hears of the answer only
    assert page.inner_text("#problem-text") == "The service ended before the answer: try again"


def test_where_less_motion_is_wanted_only_the_first_maps_are_shown(look, service, shown):
    page = answered(look, service, event(shown[0]), event(shown[-1]), reduced_motion="reduce")
    assert notes(page) == {"fusion_cam": "so far Grad-CAM", "grad_cam": "", "score_cam": "so far Grad-CAM"}


def test_an_error_after_the_first_maps(look, service, shown):
    page = answered(look, service, event(shown[0]), write_event("error", {"error": "no time left", "status": 504}))
    assert page.inner_text("#problem-text") == "No time left"


def test_the_answer_leaves_nothing_preliminary(look, service, settled):
    page = look(service.url)
    page.click(SAMPLE)
    page.wait_for_selector("[data-method=fusion_cam] .save:enabled")
    settled(page)
    assert set(notes(page).values()) == {""}
    assert "Explained in" in page.inner_text("#status")


def test_a_time_is_a_budget(look, service, settled):
    page = look(service.url)
    page.evaluate(KEEP)
    page.click(SAMPLE)
    settled(page)
    page.select_option("#budget", "time")
    settled(page)
    assert page.locator("#time").is_visible()
    page.fill("#time", "30000")
    page.dispatch_event("#time", "change")
    settled(page)
    budgets = [
        i["data"][0] for head in page.evaluate("asked") for i in json.loads(head)["inputs"] if i["name"] == "budget"
    ]
    assert budgets == ["auto", "200ms", "30000ms"]
    assert page.locator("#problem").is_hidden()
    assert "deadline" not in page.inner_text("#notes")
    page.fill("#time", "-5")
    page.dispatch_event("#time", "change")
    settled(page)
    assert page.locator("#time").input_value() == "200"
