"""Probes on every layer of one or two models, and their results as plain values for JSON."""

import argparse
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sgt_jax.analysis.separability import pairs as separability_pairs
from sgt_jax.commands import options as commands_options
from sgt_jax.commands.options import AFTER, BEFORE


def measured(
    options: argparse.Namespace,
    wanted: Sequence[separability_pairs.Pair],
    choose: Callable[[list[str]], list[str]] = list,
) -> dict[str, dict[str, dict[str, Any]]]:
    """{"before" or "checkpoint": {pair: {feature: (features [n, width], Separability)}}} of features that `choose` keeps."""
    from sgt_jax.analysis.separability.features import chosen_layers, picture_features
    from sgt_jax.analysis.separability.probes import separability

    found: dict[str, dict] = {}
    for which, model in commands_options.checkpoints(options):
        layers = chosen_layers(model, options.layers)
        pictures = [picture for pair in wanted for picture in pair.pictures]  # together: one program serves all pairs
        features = picture_features(model, pictures, layers, prompt=options.prompt, rows=options.batch)
        features = {name: features[name] for name in choose(list(features))}
        start = 0
        for pair in wanted:
            mine = {name: x[start : start + len(pair.labels)] for name, x in features.items()}
            probed = {name: (x, separability(x, pair.labels, options.seed)) for name, x in mine.items()}
            found.setdefault(which, {})[pair.name] = probed
            start += len(pair.labels)
    return found


def as_json(found: Mapping[str, Any], wanted: Sequence[separability_pairs.Pair]) -> dict[str, Any]:
    """The scores of `measured`, and the changes where there are two checkpoints."""
    import dataclasses

    from sgt_jax.analysis.separability.probes import compared

    sections = []
    for pair in wanted:
        section: dict[str, Any] = {"pair": pair.name, "classes": pair.classes, "n": len(pair.labels)}
        for which, probed in found.items():
            section[which] = {name: result.to_json() for name, (_, result) in probed[pair.name].items()}
        if BEFORE in found:
            before, after = ({k: r for k, (_, r) in found[w][pair.name].items()} for w in (BEFORE, AFTER))
            section["change"] = {name: dataclasses.asdict(e) for name, e in compared(before, after).items()}
        sections.append(section)
    return {"pairs": sections}
