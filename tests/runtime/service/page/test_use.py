"""The page in people's hands: keyboard, phone, screen reader, and whatever goes wrong."""

import pytest

PHONE = {"width": 360, "height": 740, "has_touch": True, "is_mobile": True}


def problem(page):
    page.wait_for_selector("#problem:not([hidden])")
    return page.inner_text("#problem-text")


def tab_to(page, selector):
    """Presses Tab until the focus is there."""
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("selector => document.activeElement.matches(selector)", selector):
            return
    pytest.fail(f"the keyboard does not reach {selector}")


def wide(page):
    return page.evaluate("document.documentElement.scrollWidth")


@pytest.fixture
def sample(look, service, settled):
    """Opens the page with its first sample explained."""

    def sample(**options):
        page = look(service.url, **options)
        page.click("#samples button >> nth=0")
        settled(page)
        return page

    return sample


def test_the_demo_begins_with_a_sample(look, service, settled):
    page = look(service.url + "#sample")
    page.wait_for_selector("#facts:not([hidden])")
    assert page.inner_text("#headline") == "What speaks for cross"
    assert page.locator("#samples button").count() == 5


def test_the_keyboard_does_everything(look, service, settled):
    page = look(service.url)
    page.wait_for_selector("#samples button")
    tab_to(page, "#samples button")
    page.keyboard.press("Enter")
    settled(page)
    tab_to(page, "[data-method=grad_cam] .stage")
    page.keyboard.press("ArrowRight")
    assert page.inner_text("#status").startswith("50 % across, 50 % down: Fusion-CAM 0.")
    assert page.locator("[data-method=grad_cam] .value").inner_text().startswith("0.")
    tab_to(page, "#opacity")
    page.keyboard.press("ArrowLeft")
    assert page.inner_text("#opacity-shown") == "69 %"
    tab_to(page, "#save-maps")
    with page.expect_download() as download:
        page.keyboard.press("Enter")
    assert download.value.suggested_filename == "cross-star-crescent-cross.npz"
    tab_to(page, "#search")
    page.keyboard.type("r")
    page.keyboard.press("ArrowDown")
    option = page.get_attribute("#search", "aria-activedescendant")
    name = page.locator(f"#{option} .name").inner_text()
    page.keyboard.press("Enter")
    settled(page)
    assert page.inner_text("#headline") == f"What speaks for {name}" != "What speaks for cross"
    assert page.locator("#found").is_hidden()
    tab_to(page, "#budget")
    page.keyboard.press("ArrowDown")
    settled(page)
    assert page.locator("#budget").input_value() == "exact"
    tab_to(page, "#methods-part summary")
    page.keyboard.press("Enter")
    tab_to(page, "input[value=grad_cam]")
    page.keyboard.press("Space")
    settled(page)
    assert page.locator("[data-method=grad_cam]").count() == 0


def test_nothing_is_wider_than_a_phone(sample, artifacts, settled):
    page = sample(**PHONE, device_scale_factor=2)
    assert wide(page) == 360
    assert page.locator("label:has(#camera)").is_visible()
    page.screenshot(path=artifacts / "page-phone.png", full_page=True)
    page.tap("#methods-part summary")
    page.select_option("#budget", "share")
    settled(page)
    page.tap("#search")
    assert page.locator("#found").is_visible()
    assert wide(page) == 360
    page.tap("#top button >> nth=1")
    page.wait_for_selector("#headline:has-text('crescent')")
    page.wait_for_selector("[data-method=fusion_cam] canvas")
    page.wait_for_timeout(800)  # it scrolls
    assert 0 <= page.locator("#tiles").bounding_box()["y"] < 370


@pytest.mark.parametrize("width", [360, 1280])
def test_nothing_covers_the_headline_while_the_page_is_busy(sample, artifacts, width):
    page = sample(width=width)
    top = "document.getElementById('tiles').getBoundingClientRect().top + scrollY"
    before = page.evaluate(top)
    page.route("**/infer_stream", lambda route: None)
    page.click("#top button >> nth=1")
    page.wait_for_selector("#stop")
    assert page.evaluate(top) == before  # nothing moves
    page.evaluate("document.querySelector('#headline em').textContent = 'Staffordshire bull terrier '.repeat(4)")
    page.wait_for_timeout(400)  # it is shown after a moment
    page.screenshot(path=artifacts / f"page-busy-{width}.png")
    words = page.evaluate("""() => {
        const range = document.createRange();
        range.selectNodeContents(document.getElementById("headline"));
        return [...range.getClientRects()].map(({ left, right, top, bottom }) => [left, right, top, bottom]);
    }""")
    busy = page.locator("#working").bounding_box()
    for left, right, top, bottom in words:
        beside = right <= busy["x"] or left >= busy["x"] + busy["width"]
        assert beside or bottom <= busy["y"] or top >= busy["y"] + busy["height"]
        assert right <= width


def test_samples_are_for_models_that_know_them(sample, settled):
    page = sample()
    page.select_option("#model", "middle")
    settled(page)
    assert page.locator("#sample-part").is_hidden()
    page.select_option("#model", "shapes")
    settled(page)
    assert page.locator("#sample-part").is_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(sample, settled, artifacts, scheme, grave):
    page = sample(color_scheme=scheme, reduced_motion="reduce")
    page.wait_for_timeout(50)
    page.screenshot(path=artifacts / f"page-{scheme}.png", full_page=True)
    page.click("#methods-part summary")
    page.select_option("#budget", "share")
    settled(page)
    page.hover("[data-method=fusion_cam] .stage")
    page.fill("#search", "s")
    assert grave(page) == []


def test_a_broken_file_is_told_in_the_services_line(look, service, settled, scene, drawn, grave):
    page = look(service.url)
    cut = scene.read_bytes()[:4000]
    page.set_input_files("#file", {"name": "cut.png", "mimeType": "image/png", "buffer": cut})
    said = problem(page)
    assert grave(page) == []
    assert "not a picture, or is damaged or cut short" in said
    assert "\n" not in said
    assert page.inner_text("#headline") == "No explanation"
    page.set_input_files("#file", scene)
    settled(page)
    assert page.locator("#problem").is_hidden()
    assert page.inner_text("#headline") == "What speaks for cross"


def test_a_late_answer_does_not_replace_a_later_choice(sample, settled):
    page = sample()
    held, gone = [], []
    page.on("requestfailed", lambda request: gone.append(request))
    page.route("**/infer_stream", lambda route: route.continue_() if held else held.append(route))
    page.click("#samples button >> nth=1")
    while not held:
        page.wait_for_timeout(10)
    page.click("#samples button >> nth=3")
    page.wait_for_selector("#headline:has-text('heart')")
    settled(page)
    held[0].continue_()
    page.wait_for_timeout(200)
    assert page.inner_text("#headline") == "What speaks for heart"
    assert page.inner_text("#file-name") == "heart, cross"
    assert held[0].request in gone


def test_what_takes_long_can_be_stopped(sample):
    page = sample()
    held = []
    page.route("**/infer_stream", lambda route: held.append(route))
    page.click("#samples button >> nth=1")
    page.click("#stop")
    assert problem(page) == "Stopped before the maps were made"
    page.unroute("**/infer_stream")
    page.click("#again")
    page.wait_for_selector("#headline:has-text('What speaks for star')")
    assert page.locator("#problem").is_hidden()


def test_a_token_is_asked_for_and_kept(look, guarded, settled, scene):
    page = look(guarded.url)
    page.wait_for_selector("dialog[open]")
    assert page.locator("#working").is_hidden()  # nothing is asked for while the user is
    page.fill("#token-text", "wrong")
    page.keyboard.press("Enter")
    page.wait_for_selector("dialog[open] #token-text:invalid", state="attached")
    assert page.inner_text("#token-said") == "The service did not take that token: try again"
    page.fill("#token-text", "tok€n")  # which no header can hold
    page.keyboard.press("Enter")
    page.wait_for_selector("dialog[open] #token-text:invalid", state="attached")
    assert page.inner_text("#token-said") == "The service did not take that token: try again"
    page.fill("#token-text", "open-sesame")
    page.keyboard.press("Enter")
    page.wait_for_selector("#model option", state="attached")
    assert page.locator("#budget option:checked").inner_text() == "At most 64 passes"  # the service's own
    page.reload()
    page.wait_for_selector("#model option", state="attached")
    page.wait_for_selector("#samples img[src^='blob:']")  # with the token
    page.click("#samples button")
    settled(page)
    assert page.inner_text("#file-name") == "scene.png"
    page.set_input_files("#file", scene)
    page.wait_for_selector("#facts:not([hidden])")
    assert page.locator("dialog").is_hidden()
    page.set_input_files("#file", {"name": "big.png", "mimeType": "image/png", "buffer": bytes(200_000)})
    assert problem(page) == "The photo has 200,000 bytes, the service takes 195,904: shrink it"
    assert (page.inner_text("#headline"), page.inner_text("#subline")) == ("No explanation", "big.png")
    for part in ("#tiles", "#view", "#notes", "#facts", "#class-part"):
        assert page.locator(part).is_hidden(), part
    page.dispatch_event("#save-maps", "click")  # nothing is there to be saved


def test_without_a_token_the_page_says_what_is_missing(look, guarded):
    page = look(guarded.url)
    page.click("dialog button:has-text('Cancel')")
    assert "token" in problem(page)
    page.click("#again")
    page.wait_for_selector("dialog[open]")


def test_a_service_that_is_gone_is_named(sample):
    page = sample()
    page.route("**/infer_stream", lambda route: route.abort("connectionrefused"))
    page.click("#top button >> nth=1")
    assert problem(page) == "The service cannot be reached: see whether it still runs, then try again"
