"""The page shows what a detector finds: boxes on every picture, and the map of the one that is clicked."""

from dataclasses import replace

import numpy as np
import pytest

from fusioncam import Box, Explainer
from fusioncam.output import encode_png
from fusioncam.runtime.demo.crowds import draw_crowd
from fusioncam.runtime.demo.scenes import draw_scene
from fusioncam.runtime.photos.decode import read_image


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    """A ring, a disc and a triangle."""
    path = tmp_path_factory.mktemp("objects") / "objects.png"
    path.write_bytes(encode_png(draw_scene(6, (384, 512), 3).image))
    return path


@pytest.fixture(scope="module")
def explainer(detector):
    return Explainer(detector, budget="auto")


@pytest.fixture(scope="module")
def running(run_service, detector, photo):
    running = run_service({"detector": detector}, samples=photo.parent)
    yield running
    running.stop()


@pytest.fixture
def opened(look, running, photo, settled):
    """The page with the photo."""

    def opened(**options):
        page = look(running.url, **options)
        page.set_input_files("#file", photo)
        page.wait_for_selector("#facts:not([hidden])")
        settled(page)
        assert page.locator("#problem").is_hidden(), page.inner_text("#problem")
        return page

    return opened


def chosen(page, name):
    """Waits until a detection is explained."""
    page.wait_for_selector(f"#headline em:text-is('{name}')")
    page.wait_for_selector('#tiles[aria-busy="false"]', state="attached")


def at(page, method, x, y):
    """Clicks a place of a picture, in shares of its sides."""
    box = page.locator(f'[data-method="{method}"] .stage').bounding_box()
    page.mouse.click(box["x"] + x * box["width"], box["y"] + y * box["height"])


def test_boxes_are_listed_and_drawn_and_the_best_is_explained(opened, explainer, photo, same_maps):
    page, found = opened(), explainer.detections(photo)
    assert page.locator("#targets .name").all_inner_texts() == ["ring", "disc", "triangle"]
    assert page.locator("#targets .chance").all_inner_texts() == [f"{100 * d.score:.1f} %" for d in found]
    assert page.inner_text("#headline") == "What speaks for ring"
    same_maps(page, explainer.explain(photo))
    for method in ("", "fusion_cam"):
        lines = page.locator(f'[data-method="{method}"] .marks polygon.line')
        drawn = {tuple(map(float, lines.nth(n).get_attribute("points").split()[0].split(","))) for n in range(3)}
        assert sorted(drawn) == [pytest.approx(d.box[:2], abs=0.01) for d in sorted(found, key=lambda d: d.box)]
    assert page.locator(".marks .tag").count() == 3  # on the photo alone
    assert page.locator("#class-part").is_hidden()


def test_a_saved_picture_has_the_box(opened, explainer, photo, tmp_path):
    page, own = opened(), explainer.explain(photo)
    with page.expect_download() as download:
        page.click("[data-method=fusion_cam] .save")
    download.value.save_as(tmp_path / "saved.png")
    saved, plain = read_image(tmp_path / "saved.png"), replace(own, target=None).overlay("fusion_cam", photo)
    differs = (np.abs(saved.astype(int) - plain).max(axis=2) > 8).nonzero()
    x1, y1, x2, y2 = own.box
    assert [ends for axis in differs[::-1] for ends in (axis.min(), axis.max())] == pytest.approx(
        [x1, x2, y1, y2], abs=4
    )


def test_a_click_on_a_box_explains_it(opened, explainer, photo, same_maps):
    page = opened()
    at(page, "", 0.8, 0.25)
    chosen(page, "triangle")
    same_maps(page, explainer.explain(photo, target=Box("triangle")))
    assert page.locator("#targets [aria-pressed=true] .name").all_inner_texts() == ["triangle"]
    at(page, "grad_cam", 0.6, 0.8)
    chosen(page, "disc")
    at(page, "", 0.02, 0.02)  # where nothing is
    assert page.inner_text("#headline") == "What speaks for disc"
    page.click("#targets button >> nth=0")
    chosen(page, "ring")


def test_the_keyboard_chooses_boxes_and_options(opened, explainer, photo, same_maps):
    page = opened()
    page.focus("#targets button >> nth=2")
    page.keyboard.press("Enter")
    chosen(page, "triangle")
    page.focus('[data-method=""] .stage')
    for _ in range(2):
        page.keyboard.press("ArrowRight")
    for _ in range(7):
        page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    chosen(page, "disc")
    page.select_option("#by", "box")
    page.wait_for_selector("#headline:has-text('What made the edges of disc')")
    page.wait_for_selector('#tiles[aria-busy="false"]', state="attached")
    same_maps(page, explainer.explain(photo, target=Box("disc", by="box")))


def test_the_mean_of_all_levels(opened, explainer, tmp_path, same_maps):
    page, large = opened(), tmp_path / "large.png"
    large.write_bytes(encode_png(draw_crowd(907, (384, 512)).image))  # a ring that two levels see
    page.select_option("#levels", "mean")
    page.set_input_files("#file", large)
    page.wait_for_selector("#facts:has-text('layers ')")
    same_maps(page, explainer.explain(large, levels="mean"))


def test_names_lie_on_no_other(opened, explainer, tmp_path):
    page, crowd = opened(), tmp_path / "crowd.png"
    crowd.write_bytes(encode_png(draw_crowd(911, (384, 512)).image))  # two rings and two crescents, each in the other
    page.set_input_files("#file", crowd)
    chosen(page, "disc")
    boxes = [tag.bounding_box() for tag in page.locator(".marks .tag").all()]
    assert len(boxes) == len(explainer.detections(crowd)) == 5
    for n, one in enumerate(boxes):
        for other in boxes[:n]:
            across = min(one["x"] + one["width"], other["x"] + other["width"]) - max(one["x"], other["x"])
            down = min(one["y"] + one["height"], other["y"] + other["height"]) - max(one["y"], other["y"])
            assert min(across, down) < 0.5


def test_thresholds_decide_what_is_listed(opened, explainer, photo):
    page = opened()

    def least(percent, count):
        page.fill("#conf", str(percent))
        page.dispatch_event("#conf", "change")
        page.wait_for_function("n => document.querySelectorAll('#targets button').length === n", arg=count)
        page.wait_for_selector('#tiles[aria-busy="false"]', state="attached")

    least(1, len(explainer.detections(photo, conf=0.01)))
    assert page.inner_text("#conf-shown") == "1 %"
    least(99, 0)
    assert page.inner_text("#headline") == "Nothing is detected"
    assert page.inner_text("#subline").startswith("The best is ring, 97.")
    assert page.locator(".tile").count() == 1
    assert page.locator(".marks").count() == 0
    least(25, 3)
    assert page.inner_text("#headline") == "What speaks for ring"
    page.fill("#conf", "5")
    page.fill("#iou", "100")
    page.dispatch_event("#conf", "change")
    page.dispatch_event("#iou", "change")
    count = len(explainer.detections(photo, conf=0.05, iou=1.0))
    page.wait_for_function("n => document.querySelectorAll('#targets button').length === n", arg=count)
    assert count > len(explainer.detections(photo, conf=0.05))


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [375, 1280])
def test_it_looks_well(opened, artifacts, grave, width, scheme):
    page = opened(width=width, color_scheme=scheme, reduced_motion="reduce")
    page.screenshot(path=artifacts / f"page-detect-{width}-{scheme}.png", full_page=True)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert grave(page) == []


DRAW = """async () => {
  const { detectionRow, marksOf } = await import("./page/detections.js");
  const { drawMarks } = await import("./page/marks.js");
  const told = (...data) => ({ data });
  const found = JSON.stringify([{ segmentation: [[1, 1, 5, 1, 5, 4]], keypoints: [[2, 3], [4, 5, 0.1]] }]);
  const answer = { label: told("cat"), box: told(0, 0, 9, 8), detection_score: told(0.9), detections: told(found) };
  const stage = document.createElement("div");
  drawMarks(stage, [10, 20], marksOf([detectionRow(answer, 0)], [[0, 0, 0]], 0), false);
  const lines = [...stage.querySelectorAll("polygon.line")].map((line) => line.getAttribute("points"));
  return [lines, stage.querySelectorAll(".contour.line").length, stage.querySelectorAll(".dot").length];
}"""


def test_masks_are_outlined_and_keypoints_need_no_visibility(look, running):
    lines, contours, dots = look(running.url).evaluate(DRAW)
    assert lines == ["0,0 9,0 9,8 0,8", "1,1 5,1 5,4"]
    assert (contours, dots) == (1, 1)
