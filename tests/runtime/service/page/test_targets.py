"""The page asks for targets: a region by chip, click or keyboard; a heat map; likeness to a second picture."""

import cv2
import numpy as np
import pytest

from fusioncam import Explainer, Like, Region, Value
from fusioncam.output import encode_png
from fusioncam.runtime.demo.scenes import draw_scene
from fusioncam.runtime.photos.decode import read_image

BUNDLES = {"segment": "segment", "heat": "value", "embed": "embed"}


@pytest.fixture(scope="module")
def asked(target_bundle):
    """Explainers by the names of models, as the page asks."""
    return {name: Explainer(target_bundle(kind).bundle, budget="auto") for name, kind in BUNDLES.items()}


@pytest.fixture(scope="module")
def running(run_service, target_bundle, scene):
    running = run_service({n: target_bundle(k).bundle for n, k in BUNDLES.items()}, samples=scene.parent)
    yield running
    running.stop()


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    path = tmp_path_factory.mktemp("other") / "other.png"
    path.write_bytes(encode_png(draw_scene(4, (200, 260), 2).image))
    return path


@pytest.fixture
def opened(look, running, scene, settled):
    """The page with the scene, and one model."""

    def opened(model, **options):
        page = look(running.url, **options)
        page.wait_for_selector("#model option", state="attached")
        page.select_option("#model", model)
        settled(page)
        page.set_input_files("#file", scene)
        settled(page)
        assert page.locator("#problem").is_hidden(), page.inner_text("#problem")
        return page

    return opened


def chips(page):
    return page.locator("#targets button .name").all_inner_texts()


def test_a_segmenter_shows_its_classes_as_chips(opened, asked, scene, same_maps):
    page = opened("segment")
    defaults = asked["segment"].targets(scene)
    assert chips(page) == [f"class {target.class_}" for target, *_ in defaults]
    assert page.inner_text("#headline") == f"What speaks for class {defaults[0].target.class_}"
    first = asked["segment"].explain(scene)
    assert f"{100 * first.probability:.1f} % on average" in page.inner_text("#subline")
    same_maps(page, first)
    assert page.locator("#class-part").is_hidden()
    page.click("#targets button >> nth=1")
    page.wait_for_selector(f"#headline:has-text('class {defaults[1].target.class_}')")
    page.wait_for_selector('#tiles[aria-busy="false"]', state="attached")
    assert page.locator("#targets button >> nth=1").get_attribute("aria-pressed") == "true"
    same_maps(page, asked["segment"].explain(scene, target=defaults[1].target))


def test_a_click_picks_the_part_there_and_outlines_it(opened, asked, scene, settled, drawn, same_maps):
    page = opened("segment")
    box = page.locator('[data-method=""] .stage').bounding_box()
    page.mouse.click(box["x"] + 0.25 * box["width"], box["y"] + 0.5 * box["height"])
    page.wait_for_selector("#headline:has-text(', at ')")
    settled(page)
    photo = read_image(scene)
    said = page.inner_text("#headline").split(", at ")[1]
    point = tuple(map(int, said.split(", ")))
    assert np.abs(np.subtract(point, (0.25 * photo.shape[1], 0.5 * photo.shape[0]))).max() <= 3
    found = asked["segment"].explain(scene, target=Region(point=point))
    assert page.inner_text("#headline") == f"What speaks for {found.title}"
    assert page.locator("#targets [aria-pressed=true]").count() == 0
    same_maps(page, found)
    changed = (drawn(page, "") != photo).any(axis=2)
    region = found.region.astype(np.uint8)
    border = cv2.dilate(region, np.ones((9, 9))) - cv2.erode(region, np.ones((9, 9)))
    assert changed.any()
    assert not (changed & (border == 0)).any()


def test_a_part_is_picked_by_the_keyboard(opened, asked, scene, settled):
    page = opened("segment")
    page.focus('[data-method=""] .stage')
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    page.wait_for_selector("#headline:has-text(', at ')")
    settled(page)
    point = tuple(map(int, page.inner_text("#headline").split(", at ")[1].split(", ")))
    assert page.inner_text("#headline").endswith(asked["segment"].explain(scene, target=Region(point=point)).title)


def test_an_embedding_is_compared_with_a_second_picture(opened, asked, scene, other, settled, same_maps):
    page = opened("embed")
    assert page.inner_text("#headline") == "Choose a picture to compare with"
    assert page.locator(".tile").count() == 1  # the photo
    page.set_input_files("#reference", other)
    page.wait_for_selector("#facts:not([hidden])")
    settled(page)
    found = asked["embed"].explain(scene, target=Like(other))
    assert page.inner_text("#headline") == "What is like other.png"
    assert f"Cosine {found.score:.3f}" in page.inner_text("#subline")
    same_maps(page, found)
    page.click("#reference-samples button")
    page.wait_for_selector("#headline:has-text('scene.png')")
    settled(page)
    assert "Cosine 1.000" in page.inner_text("#subline")


def test_heat_maps_go_up_and_down(opened, asked, scene, settled, same_maps):
    page = opened("heat")
    assert chips(page) == ["value 0", "value 1"]
    assert page.inner_text("#headline") == "What raises value 0"
    page.click("#targets button >> nth=1")
    page.wait_for_selector("#headline:has-text('What raises value 1')")
    settled(page)
    page.check("#down")
    page.wait_for_selector("#headline:has-text('What lowers value 1')")
    settled(page)
    same_maps(page, asked["heat"].explain(scene, target=Value(1, down=True)))


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [375, 1280])
@pytest.mark.parametrize("model", ["segment", "embed"])
def test_it_looks_well(opened, other, settled, artifacts, grave, model, width, scheme):
    page = opened(model, width=width, color_scheme=scheme, reduced_motion="reduce")
    if model == "embed":
        page.set_input_files("#reference", other)
        page.wait_for_selector("#facts:not([hidden])")
        settled(page)
    page.wait_for_timeout(50)
    page.screenshot(path=artifacts / f"page-{model}-{width}-{scheme}.png", full_page=True)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert grave(page) == []
