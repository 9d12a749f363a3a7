"""Curves: what is drawn, gaps, smoothing, and drawings that keep to the page's colours."""

import re

import numpy as np

from sgt_jax.reporting import curves


def lines(n: int = 100, **values):
    return [{"step": s, "kind": "train", "seconds": s, **{k: f(s) for k, f in values.items()}} for s in range(1, n + 1)]


def test_only_what_was_logged_is_drawn():
    drawn = curves.training_curves(
        lines(loss=lambda s: 1 / s, **{"fill/und": lambda s: 0.9, "fill/gen": lambda s: 0.5})
    )
    assert [c.title for c in drawn] == ["Loss", "Lane fill"]
    assert drawn[1].names == ("und", "gen")
    assert curves.training_curves([]) == [] and curves.training_curves(lines(1, loss=float)) == []


def test_scores_are_grouped_by_the_first_part_of_their_name():
    rows = [
        {"step": s, "kind": "eval", "seconds": s, "answers/count": 0.5, "answers/all": 0.4, "ce": 1.0} for s in (0, 9)
    ]
    drawn = curves.score_curves(rows + lines(3, loss=float))
    assert [(c.title, c.names) for c in drawn] == [("answers", ("count", "all")), ("ce", ("ce",))]


def test_drawing_takes_colours_and_font_from_the_page():
    svg = curves.draw_curve("A & B", [curves.Series("x<y", np.arange(9.0), np.arange(9.0))], points=True).svg
    assert not re.search(r"#[0-9a-fA-F]{6}|#000|font-family|<style|<metadata|http", svg)
    assert "var(--s1)" in svg and "var(--rule)" in svg and "var(--soft)" in svg
    assert 'aria-label="A &amp; B: x&lt;y ends at 8"' in svg and svg.startswith("<svg") and svg.endswith("</svg>")


def test_the_same_values_give_the_same_drawing():
    series = [curves.Series("x", np.arange(50.0), np.sin(np.arange(50.0)))]
    assert curves.draw_curve("t", series, smooth=True) == curves.draw_curve("t", series, smooth=True)


def test_gaps_stay_gaps():
    mean = curves._running_mean(np.array([1.0, np.nan, 3.0] + [np.nan] * 3))
    np.testing.assert_allclose(mean, [1.0, 2.0, 3.0, 3.0, np.nan, np.nan])
    curve = curves.training_curves(lines(loss=lambda s: None if s == 50 else 1.0))[0]
    assert "nan" not in curve.svg.lower()


def test_long_curves_are_thinned_by_means():
    x = np.arange(1000.0)
    thin = curves._thin(curves.Series("x", x, x % 2))
    assert len(thin.x) <= curves._POINTS
    assert thin.x[0] == 1.0 and abs(thin.y[:-1] - 0.5).max() < 0.2


def test_more_series_than_colours_are_counted():
    series = [curves.Series(str(n), np.arange(3.0), np.arange(3.0)) for n in range(11)]
    curve = curves.draw_curve("many", series)
    assert len(curve.names) == 8 and curve.note == "3 more in metrics.jsonl"


def test_log_axis_of_a_narrow_range_has_labels():
    curve = curves.draw_curve(
        "g", [curves.Series("g", np.arange(5.0), np.array([0.4, 0.6, 1.2, 2.2, 3.0]))], scale="log"
    )
    assert {"0.5", "1", "2"} <= set(re.findall(r">([\d.]+)</text>", curve.svg))
