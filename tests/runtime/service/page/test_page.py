"""What the page shows and saves is what the command line makes of the same photo."""

import base64

import cv2
import numpy as np
import pytest

from fusioncam.manifest import Preprocessing
from fusioncam.runtime.demo.scenes import CLASSES
from fusioncam.runtime.explainer import Explainer
from fusioncam.runtime.photos.axes import axes
from fusioncam.runtime.photos.decode import read_image
from fusioncam.runtime.photos.geometry import visible_slices
from fusioncam.runtime.picture import overlay

METHODS = ("fusion_cam", "grad_cam", "score_cam")
CLOSE = 2  # a step of the colour map, should two maps differ in their last bits; here they are the same


def expected(photo, explanation, method, opacity=0.7):
    """What `fusioncam explain --separate` draws."""
    seen = visible_slices(photo.shape[:2], explanation.preprocessing)
    picture = photo // 3 + 170
    picture[seen] = overlay(photo[seen], explanation.on_photo(method)[seen], opacity=opacity)
    return picture


def explained(bundle, path, class_index=None, budget="auto", methods=METHODS):
    photo = read_image(path)
    return photo, Explainer(bundle, methods=methods, budget=budget).explain(photo, class_index)


def furthest(one, two):
    assert one.shape == two.shape
    return int(abs(one.astype(int) - two.astype(int)).max())


def saved(page, press):
    with page.expect_download() as download:
        press()
    return download.value


def read_rgb(path):
    return cv2.cvtColor(cv2.imread(str(path), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


@pytest.fixture
def page(look, service, settled, scene):
    """The page with the demo's picture explained."""
    page = look(service.url)
    page.set_input_files("#file", scene)
    settled(page)
    return page


def test_every_overlay_is_that_of_the_command_line(page, drawn, bundles, scene):
    photo, found = explained(bundles["shapes"], scene)
    assert furthest(drawn(page, ""), photo) == 0
    pictures = [drawn(page, method) for method in METHODS]
    for method, picture in zip(METHODS, pictures, strict=True):
        assert furthest(picture, expected(photo, found, method)) <= CLOSE
    assert all(furthest(pictures[0], other) > 20 for other in pictures[1:])
    assert page.inner_text("#headline") == f"What speaks for {found.label}"
    assert f"{100 * found.probability:.1f} %" in page.inner_text("#subline")
    page.fill("#opacity", "20")
    page.wait_for_timeout(100)
    assert page.inner_text("#opacity-shown") == "20 %"
    fainter = drawn(page, "grad_cam")
    assert furthest(fainter, expected(photo, found, "grad_cam", 0.2)) <= CLOSE
    assert furthest(fainter, pictures[1]) > 50


def test_another_class_has_another_map(page, drawn, bundles, scene, settled):
    before = drawn(page, "fusion_cam")

    def check(label):
        settled(page)
        photo, found = explained(bundles["shapes"], scene, CLASSES.index(label))
        picture = drawn(page, "fusion_cam")
        assert furthest(picture, expected(photo, found, "fusion_cam")) <= CLOSE
        assert furthest(picture, before) > 50
        assert page.inner_text("#headline") == f"What speaks for {label}"
        assert page.get_attribute(f"#top button:has-text('{label}')", "aria-pressed") == "true"

    page.fill("#search", "STA")
    page.keyboard.press("Enter")
    check("star")
    page.click("#top button:has-text('crescent')")
    check("crescent")


def test_maps_are_saved_as_numpy_reads_them(page, bundles, scene, tmp_path):
    download = saved(page, lambda: page.click("#save-maps"))
    assert download.suggested_filename == "scene-cross.npz"
    download.save_as(tmp_path / "maps.npz")
    _, found = explained(bundles["shapes"], scene)
    with np.load(tmp_path / "maps.npz") as maps:
        assert sorted(maps) == sorted(METHODS)
        for method in METHODS:
            assert maps[method].dtype == np.float32
            np.testing.assert_allclose(maps[method], found.maps[method], atol=1e-5)


def test_other_methods_and_budgets_can_be_chosen(page, drawn, bundles, scene, settled):
    page.click("#methods-part summary")
    page.check("input[value=layer_cam]")
    settled(page)
    page.uncheck("input[value=grad_cam]")
    settled(page)
    page.select_option("#budget", "share")
    settled(page)
    page.fill("#share", "10")
    page.dispatch_event("#share", "change")
    settled(page)
    assert [tile.get_attribute("data-method") for tile in page.locator(".tile").all()] == [
        "", "fusion_cam", "score_cam", "layer_cam",
    ]  # fmt: skip
    photo, found = explained(bundles["shapes"], scene, budget=0.1, methods=("fusion_cam", "score_cam", "layer_cam"))
    assert furthest(drawn(page, "layer_cam"), expected(photo, found, "layer_cam")) <= CLOSE
    assert furthest(drawn(page, "score_cam"), expected(photo, found, "score_cam")) <= CLOSE
    assert found.flags == ("cut_short",)
    assert "The budget ended before the map was settled" in page.inner_text("#notes").capitalize()
    assert f"Masked passes\n{found.passes.run}\n" in page.inner_text("#facts")


def test_a_large_photo_that_is_seen_in_part_is_saved_in_its_own_size(look, service, bundles, drawn, settled, tmp_path):
    rng = np.random.default_rng(5)
    photo = cv2.resize(rng.integers(0, 256, (20, 45, 3), np.uint8), (901, 401), interpolation=cv2.INTER_CUBIC)
    cv2.imwrite(str(tmp_path / "wide.png"), photo)
    page = look(service.url)
    page.select_option("#model", "middle")
    page.set_input_files("#file", tmp_path / "wide.png")
    settled(page)
    photo, found = explained(bundles["middle"], tmp_path / "wide.png")
    assert page.inner_text("#headline") == f"What speaks for class {found.class_index}"
    download = saved(page, lambda: page.click(".tile[data-method=score_cam] .save"))
    assert download.suggested_filename == f"wide-class-{found.class_index}.score_cam.png"
    download.save_as(tmp_path / "out.png")
    assert furthest(read_rgb(tmp_path / "out.png"), expected(photo, found, "score_cam")) <= CLOSE
    shown = drawn(page, "grad_cam")
    assert max(shown.shape) == 768
    rows, columns = visible_slices(photo.shape[:2], found.preprocessing)
    edge = round(columns.start * 768 / 901)
    assert shown[:, : edge - 1].min() >= 170 > shown[rows][:, edge + 2 : 768 - edge - 2].min()


def test_a_photo_is_turned_as_its_exif_data_say(look, service, bundles, drawn, settled, scene, tmp_path):
    data = cv2.imencode(".jpg", cv2.imread(str(scene)), [cv2.IMWRITE_JPEG_QUALITY, 100])[1].tobytes()
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"  # orientation 6: a quarter turn
    turned = data[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + data[2:]
    (tmp_path / "turned.jpg").write_bytes(turned)
    page = look(service.url)
    page.set_input_files("#file", tmp_path / "turned.jpg")
    settled(page)
    photo, found = explained(bundles["shapes"], tmp_path / "turned.jpg")
    assert photo.shape == (420, 300, 3)
    assert furthest(drawn(page, ""), photo) <= 3  # two JPEG decoders
    assert furthest(drawn(page, "score_cam"), expected(photo, found, "score_cam")) <= 3


@pytest.mark.parametrize("way", ["drop", "paste"])
def test_a_photo_is_dropped_or_pasted(look, service, settled, scene, way, drawn):
    page = look(service.url)
    given = base64.b64encode(scene.read_bytes()).decode()
    transfer = page.evaluate_handle(
        """given => {
            const transfer = new DataTransfer();
            const bytes = Uint8Array.from(atob(given), c => c.charCodeAt(0));
            transfer.items.add(new File([bytes], "given.png", {type: "image/png"}));
            return transfer;
        }""",
        given,
    )
    if way == "drop":
        for event in ("dragenter", "dragover", "drop"):
            page.dispatch_event("#drop", event, {"dataTransfer": transfer})
    else:
        page.evaluate("t => dispatchEvent(new ClipboardEvent('paste', {clipboardData: t}))", transfer)
    settled(page)
    assert page.inner_text("#file-name") == "given.png"
    assert furthest(drawn(page, ""), read_image(scene)) == 0
    assert page.locator("#facts").is_visible()


def test_a_photo_lies_where_python_says(look, service):
    """The page's own arithmetic, on sizes and cuts of all kinds."""
    rng = np.random.default_rng(0)
    cases = [
        {
            "photo": [int(n) for n in rng.integers(1, 3000, 2)],
            "size": [int(n) for n in rng.integers(1, 400, 2)],
            "resize": str(rng.choice(["squash", "crop", "squash_crop", "crop_first", "letterbox"])),
            "crop_rounding": str(rng.choice(["even", "down"])),
            "crop_fraction": float(rng.choice([1, 0.875, 0.9, rng.uniform(0.1, 1)])),
        }
        for _ in range(300)
    ]
    for case in cases:
        if case["resize"] == "letterbox":
            case["pad_place"] = str(rng.choice(["centre", "corner"]))
            case["pad_rounding"] = str(rng.choice(["even", "up", "down"]))
    found = look(service.url).evaluate(
        """async cases => {
            const { axes, seen, taps } = await import(new URL("page/geometry.js", location));
            return cases.map(c => axes(c.photo, c).map(axis => {
                const { low, high, weight } = taps(axis, seen(axis));
                const told = some => [some[0], some.at(-1), some.reduce((a, b) => a + b, 0)];
                return [seen(axis), ...[low, high, weight].map(told)];
            }));
        }""",
        cases,
    )
    for case, pair in zip(cases, found, strict=True):
        preprocessing = Preprocessing(**{k: v for k, v in case.items() if k != "photo"})
        for axis, (seen, *sums) in zip(axes(case["photo"], preprocessing), pair, strict=True):
            assert [axis.seen.start, axis.seen.stop] == seen, case
            for some, (first, last, total) in zip(axis.taps(axis.seen), sums, strict=True):
                assert (some[0], some[-1], some.sum()) == pytest.approx((first, last, total), abs=1e-3), case


def test_a_verified_map_shows_its_verdict(page, bundles, scene, settled, artifacts):
    assert page.is_hidden("#verdict")
    page.check("#verify")
    settled(page)
    found = Explainer(bundles["shapes"], budget="auto").explain(read_image(scene), verify=True).verdict
    assert page.inner_text("#verdict .badge") == found.title
    assert page.locator("#verdict li").all_inner_texts() == list(found.reasons)
    page.click("#verdict summary")
    shown = [row.split("\t") for row in page.locator("#verdict tr").all_inner_texts()]
    assert shown[0][1:] == ["drop", "insertion", "deletion", "support"]
    assert {row[0]: row[4] for row in shown[1:]} == {k: f"{v['support']:.2f}" for k, v in found.figures.items()}
    page.screenshot(path=artifacts / "page-verdict.png", full_page=True)
    page.uncheck("#verify")
    settled(page)
    assert page.is_hidden("#verdict")
