"""All pages share one template and one style sheet, and a browser shows them as they are meant: sans, nothing cut off."""

import json
import re
import shutil
import subprocess
from html import escape, unescape
from pathlib import Path

import pytest
from etils import epath

from sgt_jax.analysis.mechanism import page as mechanism_page
from sgt_jax.assets import resource
from sgt_jax.reporting import page, run_page
from sgt_jax.study import page as study_page
from tests.reporting.test_run_page import invented_run
from tests.study.test_page import results

ROOT = Path(__file__).parents[2]
WIDTHS = (1280, 500, 390)  # pixels: a laptop, half a screen, a telephone
TEMPLATES = ("benchmarks.html", "mechanism.html", "report.html", "study.html")
PROBE = """
<script>
onload = () => {
  const found = [...document.querySelectorAll("iframe")].map(frame => {
    const page = frame.contentDocument, view = frame.contentWindow;
    const texts = [...page.querySelectorAll("body *")].filter(e => !e.closest("svg, code, pre"));
    const outside = e => !e.closest(".scroll") && e.getBoundingClientRect().right > view.innerWidth + 1;
    const tables = view.innerWidth > 1000 ? [...page.querySelectorAll(".scroll:not(:has(.sheet))")] : [];
    const moved = tables.filter(e => e.scrollWidth > e.clientWidth + 1);
    return {width: view.innerWidth, scroll: page.documentElement.scrollWidth, texts: texts.length,
            cut: [...texts.filter(outside), ...moved].map(e => e.outerHTML.slice(0, 120)),
            fonts: [...new Set(texts.map(e => view.getComputedStyle(e).fontFamily))]};
  });
  document.body.textContent = "FOUND" + JSON.stringify(found) + "FOUND";
};
</script>
"""


def browser() -> str | None:
    """The path of a Chromium, or None."""
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def styles(text: str) -> str:
    """What stands in a page's style blocks."""
    return "\n".join(re.findall(r"<style>(.*?)</style>", text, re.S))


def test_every_page_is_made_from_the_one_base():
    folder = Path(resource("package:report"))
    whole = {path.name for path in folder.glob("*.html") if "<!doctype" in path.read_text().lower()}
    assert whole == {"base.html"}
    for name in TEMPLATES:
        assert '{% extends "base.html" %}' in (folder / name).read_text(), name


def test_no_style_block_holds_an_entity():
    """Browsers do not unescape what stands in a style block: with an entity in it the font's rule falls away."""
    text = page.render("benchmarks.html", model="<b>", tables=[], entries=[], source="nobody")
    assert '"Segoe UI"' in styles(text) and "&lt;b&gt;" in text
    assert not re.search(r"&#?\w+;", styles(text))


def layout(text: str, folder: Path) -> list[dict]:
    """What Chromium makes of a page at each of `WIDTHS`: its width, how far it scrolls, its fonts, what is cut off."""
    frames = "".join(
        f'<iframe srcdoc="{escape(text)}" style="width:{w}px;height:900px;border:0"></iframe>' for w in WIDTHS
    )
    path = folder / "frames.html"
    path.write_text(f"<!doctype html><body>{frames}{PROBE}</body>", encoding="utf-8")
    command = [browser(), "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder / 'profile'}"]
    command += ["--window-size=1400,900", "--virtual-time-budget=20000", "--dump-dom", f"file://{path}"]
    out = subprocess.run(command, capture_output=True, text=True, timeout=300).stdout
    return json.loads(unescape(out.split("FOUND")[1]))


def pages(folder: Path) -> dict[str, str]:
    """A page of each kind, from files as runs and studies write them."""
    run = folder / "run"
    run.mkdir()
    made = {"run": run_page.write_report(run, invented_run(run))}
    study = epath.Path(folder / "study")
    study.mkdir()
    made["study"] = study_page.build(results(study, ("base", "sft", "segmentation", "edges")))
    made["mechanism"] = mechanism_page.build(ROOT / "docs/results/mechanism", folder / "mechanism.html")
    return {name: epath.Path(path).read_text() for name, path in made.items()}


@pytest.mark.slow  # a study's bootstrap and a browser that lays twelve pages out
@pytest.mark.skipif(browser() is None, reason="needs chromium on the path")
def test_a_browser_shows_sans_and_cuts_nothing_off(tmp_path):
    for name, text in pages(tmp_path).items():
        assert not re.search(r"&#?\w+;", styles(text)), name
        for found in layout(text, tmp_path):
            assert found["texts"] > 50, (name, found)
            assert found["scroll"] <= found["width"], (name, found["width"], found["cut"][:5])
            assert not found["cut"], (name, found["width"], found["cut"][:5])
            assert all(font.endswith("sans-serif") for font in found["fonts"]), (name, found["fonts"])
