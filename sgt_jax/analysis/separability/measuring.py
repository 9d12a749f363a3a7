"""Probes on every layer of one or two models, and their results as plain values for JSON."""

import argparse
import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from sgt_jax.analysis.separability.features import chosen_layers, picture_features
from sgt_jax.analysis.separability.pairs import AFTER, BEFORE, Pair
from sgt_jax.analysis.separability.probes import Separability, compared, separability
from sgt_jax.inference.assistant import Assistant
from sgt_jax.parallel import progress

# {feature: (features [n, width], how separable they are)} of one pair.
Probed = Mapping[str, tuple[np.ndarray, Separability]]


def measured(
    models: Iterable[tuple[str, Assistant]],
    options: argparse.Namespace,
    wanted: Sequence[Pair],
    choose: Callable[[list[str]], list[str]] = list,
) -> dict[str, dict[str, Probed]]:
    """{BEFORE or AFTER: {pair: what was probed}} of the features that `choose` keeps.

    Args:
      models: by name; one is in memory at a time if the iterable lets go.
      options: layers, prompt, batch and seed of the command.
    """
    results: dict[str, dict[str, Probed]] = {}
    for which, model in models:
        layers = chosen_layers(model, options.layers)
        pictures = [picture for pair in wanted for picture in pair.pictures]  # together: one program serves all pairs
        features = picture_features(model, pictures, layers, prompt=options.prompt, rows=options.batch)
        features = {name: features[name] for name in choose(list(features))}
        start = 0
        for pair in wanted:
            mine = {name: x[start : start + len(pair.labels)] for name, x in features.items()}
            named = progress.counted(f"{pair.name}: fitting probes", mine.items(), len(mine))
            probed = {name: (x, separability(x, pair.labels, options.seed)) for name, x in named}
            results.setdefault(which, {})[pair.name] = probed
            start += len(pair.labels)
    return results


def as_json(results: Mapping[str, Mapping[str, Probed]], wanted: Sequence[Pair]) -> dict[str, Any]:
    """The scores of `measured`, and the changes where there are two checkpoints."""
    sections = []
    for pair in wanted:
        section: dict[str, Any] = {"pair": pair.name, "classes": pair.classes, "n": len(pair.labels)}
        for which, probed in results.items():
            section[which] = {name: result.to_json() for name, (_, result) in probed[pair.name].items()}
        if BEFORE in results:
            before, after = ({k: r for k, (_, r) in results[w][pair.name].items()} for w in (BEFORE, AFTER))
            section["change"] = {name: dataclasses.asdict(e) for name, e in compared(before, after).items()}
        sections.append(section)
    return {"pairs": sections}
