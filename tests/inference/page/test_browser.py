"""The page in a real browser: every tab, a part under the mouse, phone width, and no request that leaves the server."""

import os
import re
import shutil

import pytest

api = pytest.importorskip("playwright.sync_api", reason="pip install -e '.[serve,clients]' to test the page")
pytest.importorskip("uvicorn", reason="pip install -e '.[serve,clients]' to test the page")

from sgt_jax.inference import load  # noqa: E402
from sgt_jax.inference.engine import Engine, Limits  # noqa: E402
from tests.support import serving  # noqa: E402
from tests.support.serving_pictures import photo, png  # noqa: E402

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [
    pytest.mark.slow,  # a browser, and a minute of compiling
    pytest.mark.skipif(CHROMIUM is None, reason="browser tests: not run, as there is no chromium (apt-get install chromium)"),
]
FIGURES = os.environ.get("SGT_FIGURES", "")  # a folder for screenshots


@pytest.fixture(scope="module")
def address():
    model = load.load("package:nano")
    other = Engine(model, Limits(slots=2, prefill=2, pictures=1))
    with serving.running(model, Limits(slots=2, prefill=2, pictures=1), others={"base": other}) as (found, _):
        yield found


@pytest.fixture(scope="module")
def browser():
    with api.sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture
def page(browser, address, request):
    width, scheme = getattr(request, "param", (1280, "light"))
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    outside, errors = [], []
    found = context.new_page()
    local = (address + "/", "data:", "blob:")
    found.on("request", lambda sent: None if sent.url.startswith(local) else outside.append(sent.url))
    found.on("pageerror", lambda error: errors.append(str(error)))
    found.on("console", lambda said: errors.append(said.text) if said.type == "error" else None)
    found.set_default_timeout(90_000)
    found.goto(address)
    found.wait_for_selector("body[data-ready=true]")
    yield found
    assert outside == [] and errors == []
    context.close()


def fits(page):
    return page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def keep(page, name):
    if FIGURES:
        page.screenshot(path=f"{FIGURES}/{name}.png", full_page=True)


def finish(page, section):
    page.locator(f"#{section} .go").click()
    api.expect(page.locator(f"#{section} .says")).to_have_text(re.compile(r"[\d.]+ s$"), timeout=90_000)


@pytest.mark.parametrize("page", [(1280, "light"), (390, "dark")], indirect=True)
def test_parts_light_up_under_the_mouse_and_by_the_keyboard(page):
    page.locator("#parts .example").click()
    finish(page, "parts")
    overlay, over = page.locator("#parts canvas.overlay"), page.locator("#parts .over")
    box = overlay.bounding_box()
    overlay.hover(position={"x": box["width"] * 0.3, "y": box["height"] * 0.3})
    said = re.fullmatch(
        r"Part \d+ of \d+: area (\d+) pixels \([\d.]+ %\), box \d+ by \d+ at \(\d+, \d+\)", over.inner_text()
    )
    assert said and int(said[1]) > 20
    keep(page, f"page_{page.viewport_size['width']}")
    page.mouse.move(0, 0)
    page.locator("#parts .parts button").first.focus()
    assert over.inner_text().startswith("Part 1 of ")
    with page.expect_download() as kept:
        page.get_by_text("save JSON").click()
    assert kept.value.suggested_filename == "parts.json" and fits(page)
    assert all(picture.get_attribute("alt") for picture in page.locator("img").all())


def test_an_answer_is_streamed_and_the_conversation_goes_on(page):
    page.locator("#tab-answer").click()
    page.locator("#answer .example").click()
    page.locator("#answer .examples button").first.click()
    finish(page, "answer")
    page.locator("#words summary").click()
    page.locator("#words button", has_text=re.compile("^circle$")).click()
    assert page.locator("#answer .prompt").input_value() == "circle"
    finish(page, "answer")
    assert page.locator("#answer .turn").count() == 4 and page.locator("#answer .turn.answered").last.inner_text().strip()
    assert fits(page)


@pytest.mark.parametrize("page", [(390, "light")], indirect=True)
def test_draw_edit_and_the_same_picture_again(page, tmp_path):
    page.locator("#tab-draw").click()
    page.locator("#draw .examples button").first.click()
    page.locator("#draw summary").click()
    page.locator("#draw [name=seed]").fill("7")
    page.locator("#draw [name=steps]").fill("2")
    finish(page, "draw")
    first = page.locator("#draw .results img").get_attribute("src")
    with page.expect_download() as kept:
        page.get_by_text("save picture").click()
    kept.value.save_as(tmp_path / "kept.png")
    page.locator("#draw [name=seed]").fill("8")
    finish(page, "draw")
    other = page.locator("#draw .results img").get_attribute("src")
    page.locator("#reproduce").set_input_files(tmp_path / "kept.png")
    assert other != first
    api.expect(page.locator("#draw .results img")).to_have_attribute("src", first, timeout=90_000)
    assert fits(page)
    page.locator("#draw [name=think]").check()
    finish(page, "draw")
    assert page.locator("#draw .thought").inner_text().startswith("The model planned: ") and fits(page)
    keep(page, "page_thought")
    page.locator("#tab-edit").click()
    assert page.locator("#edit [name=think]").count() == 0
    (tmp_path / "photo.png").write_bytes(png(photo(3)))
    page.locator("#edit [name=image]").set_input_files(tmp_path / "photo.png")
    page.locator("#edit .examples button").first.click()
    finish(page, "edit")
    assert page.locator("#edit .results img").count() == 1 and fits(page)


def test_two_models_are_compared_and_work_can_be_cancelled(page):
    page.locator("#tab-compare").click()
    page.locator("#compare .example").click()
    finish(page, "compare")
    assert page.locator("#compare canvas.overlay").count() == 2
    keep(page, "page_compare")
    page.locator("#tab-draw").click()
    page.locator("#draw .prompt").fill("a red circle")
    page.locator("#draw summary").click()
    page.locator("#draw [name=steps]").fill("200")
    page.locator("#draw .go").click()
    api.expect(page.locator("#draw .says")).to_have_text(re.compile("^Step [1-9]"), timeout=90_000)
    page.locator("#draw .cancel").click()
    page.get_by_text("Cancelled.").wait_for()


def test_tabs_are_reached_by_the_keyboard_and_errors_are_said(page):
    page.locator("#tab-parts").focus()
    page.keyboard.press("ArrowRight")
    assert page.locator("#tab-answer").get_attribute("aria-selected") == "true"
    page.locator("#tab-parts").click()
    page.locator("#parts .go").click()
    page.get_by_text("Choose a picture first.").wait_for()
