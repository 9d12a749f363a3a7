"""What tuning changed inside the model, for the top of the mechanism page: one sentence and one figure."""

from collections.abc import Mapping
from typing import Any

import markupsafe

from sgt_jax.evaluation.statistics import LEVEL, Estimate
from sgt_jax.reporting import forest, headline
from sgt_jax.reporting.headline import Change
from sgt_jax.reporting.words import percent

_ATTENTION = "attention on the object asked about"


def lead(contents: Mapping[str, Any], runs: int) -> dict[str, Any]:
    """`headline` and `figure` of the page, from the files of its parts.

    Of the probes it takes the last layer that was looked at, of attention what answers give the object asked about: all in
    points, and none chosen by how much it changed.
    """
    found = _probes(contents.get("probe"), runs) + _attention(contents.get("attention"), runs)
    if not found:
        return {"headline": "Nothing was compared before and after tuning by probes or attention.", "figure": None}
    rows = [forest.Row(short, c.difference, c.verdict) for short, c in found]
    over = (
        f"over {runs} runs" if runs > 1 else "over pictures and questions of one run, which other runs need not share"
    )
    caption = (
        "Change after tuning, points: accuracy of the last layer's probes; attention of answers on the object asked about, "
        f"by layer. Lines are {percent(LEVEL)} intervals {over}."
    )
    svg = forest.draw("Change after tuning, points", rows)
    sentence = headline.first_sentence([change for _, change in found])
    return {"headline": sentence, "figure": {"svg": markupsafe.Markup(svg), "caption": caption}}


def _probes(content: Mapping[str, Any] | None, runs: int) -> list[tuple[str, Change]]:
    """The accuracy of the last layer's probe on every pair of classes; (short name, change)."""
    found = []
    for section in content["pairs"] if content else ():
        feature = list(section["change"])[-1]
        name = f"the probe of {section['pair']}, {feature},"
        change = Change(name, None, Estimate.from_dict(section["change"][feature]), runs=runs)
        found.append((f"probe: {section['pair']}", change))
    return found


def _attention(content: Mapping[str, Any] | None, runs: int) -> list[tuple[str, Change]]:
    """What answers give the object, of what they give the picture, layer by layer."""
    found, part = [], (content or {}).get("understanding")
    if part:
        layers = [cell["layer"] for cell in part["checkpoint"]["answer"]["layers"]]
        for layer, change in zip(layers, part["object_change"]["answer"], strict=True):
            if change:
                name = f"{_ATTENTION}, layer {layer},"
                found.append((f"attention: layer {layer}", Change(name, None, Estimate.from_dict(change), runs=runs)))
    return found
