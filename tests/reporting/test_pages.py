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
    page.querySelectorAll("details").forEach(e => e.open = true);
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


def luminance(colour: str) -> float:
    """Relative luminance of #rrggbb, by WCAG."""
    channels = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(a: str, b: str) -> float:
    """Contrast of two colours, 1 to 21."""
    high, low = sorted((luminance(a), luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def mixed(a: str, b: str, share: float) -> str:
    """CSS's color-mix in srgb: `share` of a, the rest of b."""
    parts = ((int(a[i : i + 2], 16), int(b[i : i + 2], 16)) for i in (1, 3, 5))
    return "#" + "".join(f"{round(share * x + (1 - share) * y):02x}" for x, y in parts)


def test_texts_and_lines_can_be_told_from_their_ground_in_both_themes():
    """Texts by at least 4.5, lines and dots by 3, as WCAG AA asks for."""
    light, dark = re.findall(
        r"color-scheme: light dark;(.*?)}|:root {\s*(--paper.*?)}",
        Path(resource("package:report/style.css")).read_text(),
        re.S,
    )
    for block in ("".join(light), "".join(dark)):
        colours = dict(re.findall(r"(--[\w]+): (#\w{6})", block))
        assert len(colours) == 18
        for name in ("--ink", "--soft", "--accent", "--good", "--bad", "--neutral"):
            for ground in ("--paper", "--card"):
                assert contrast(colours[name], colours[ground]) >= 4.5, (name, ground)
        for name in ("--good", "--bad"):  # on the cards of their own verdict
            tinted = mixed(colours[name], colours["--card"], 0.07)
            assert min(contrast(colours[name], tinted), contrast(colours["--soft"], tinted)) >= 4.5, name
        for number in range(1, 9):
            assert contrast(colours[f"--s{number}"], colours["--paper"]) >= 3, number
        for name in ("--s1", "--s2"):  # cells of heat maps, at their strongest
            assert contrast(colours["--ink"], mixed(colours[name], colours["--paper"], 0.5)) >= 4.5, name


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
