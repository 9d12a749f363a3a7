"""What the attention analyses measured, as plain values for JSON: shares, changes and their intervals."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from sgt_jax.evaluation import statistics


def answering_json(result: Any) -> dict[str, Any]:
    """{"answer" or "question": {"layers": [...]}, "even_entropy", "object_area", "rank"}."""
    from sgt_jax.analysis.attention.answering import KEYS, QUERIES

    found: dict[str, Any] = {}
    for q, kind in enumerate(QUERIES):
        cells = []
        for number, layer in enumerate(result.layers):
            heads = result.mass[:, number, q]  # [n, H, 4]
            share = heads[..., KEYS.index("picture")]
            top = int(share.mean(0).argmax())
            pairs = object_parts(result, number, q)
            cells.append({
                "layer": layer,
                "share": dataclasses.asdict(statistics.estimate(share.mean(1))),
                "head": top,
                "head_share": float(share.mean(0)[top]),
                "entropy": float(result.entropy[:, number, q].mean()),
                **{name: float(heads[..., KEYS.index(name)].mean()) for name in ("words", "markers")},
                "object": dataclasses.asdict(statistics.estimate(pairs)) if len(pairs) else None,
            })  # fmt: skip
        found[kind] = {"layers": cells}
    area = result.object_area[np.isfinite(result.object_area)]
    found["even_entropy"] = float(np.log(result.tokens).mean())
    found["object_area"] = float(area.mean()) if len(area) else None
    found["with_object"] = len(area)
    found["rank"] = [float(r) for r in result.rank.mean(0)] if result.rank.size else None
    return found


def object_parts(result: Any, number: int, q: int) -> np.ndarray:
    """[questions about a known object, 2]: weight on the object, and on the whole picture, whose ratio of sums counts."""
    from sgt_jax.analysis.attention.answering import KEYS

    mass = result.mass[:, number, q].mean(1)
    pairs = np.stack([mass[:, KEYS.index(name)] for name in ("asked object", "picture")], axis=1)
    return pairs[np.isfinite(pairs).all(1)]


def object_change(after: Any, before: Any) -> dict[str, list[dict[str, Any] | None]]:
    """Per kind of query and layer: the object's part of what goes to the picture, after minus before, paired by question."""
    from sgt_jax.analysis.attention.answering import QUERIES

    found: dict[str, list] = {}
    for q, kind in enumerate(QUERIES):
        found[kind] = []
        for number in range(len(after.layers)):
            a, b = (object_parts(result, number, q) for result in (after, before))
            found[kind].append(dataclasses.asdict(statistics.difference(a, b)) if len(a) else None)
    return found


def _relative_change(after: Any, before: Any) -> dict[str, list[dict[str, Any]]]:
    """Per kind of query and layer: share after over share before, minus 1, with a bootstrap over the questions."""
    from sgt_jax.analysis.attention.answering import QUERIES

    found: dict[str, list] = {}
    for q, kind in enumerate(QUERIES):
        found[kind] = []
        for number in range(len(after.layers)):
            pair = np.stack([r.mass[:, number, q, :, 0].mean(1) for r in (after, before)], axis=1)
            ratio = statistics.estimate(pair)
            moved = {end: getattr(ratio, end) - 1 for end in ("value", "low", "high")}
            found[kind].append(dataclasses.asdict(dataclasses.replace(ratio, **moved)))
    return found


def value_of(estimate: Mapping[str, Any] | None) -> float:
    return np.nan if estimate is None else estimate["value"]


def painting_json(result: Any) -> dict[str, Any]:
    """Shares of the attention on words per category, per token, over layers and times, and of all attention."""
    from sgt_jax.analysis.attention.painting import KEYS
    from sgt_jax.analysis.attention.words import CATEGORIES

    count = len(CATEGORIES)
    heads = result.mass.mean(3, dtype=np.float64)  # [n, S, L, 7]
    own = heads[..., :count]
    prompts = own.mean((1, 2))  # [n, 4]
    per_token = prompts.sum(0) / np.maximum(result.tokens.sum(0), 1)
    cells = own.sum(0).swapaxes(0, 1)  # [L, S, 4]
    return {
        "layers": list(result.layers),
        "times": [float(t) for t in result.times],
        "categories": {
            name: dataclasses.asdict(statistics.estimate(np.stack([prompts[:, i], prompts.sum(1)], axis=1)))
            for i, name in enumerate(CATEGORIES)
        },
        "per_token": {name: float(per_token[i] / per_token.sum()) for i, name in enumerate(CATEGORIES)},
        "by_layer_and_time": (cells / cells.sum(-1, keepdims=True)).tolist(),
        "all_keys": {"words": float(own.sum(-1).mean())}
        | {name: float(heads[..., i].mean()) for i, name in enumerate(KEYS) if i >= count},
        "tokens": {name: int(result.tokens.sum(0)[i]) for i, name in enumerate(CATEGORIES)},
        "rank": result.rank.mean(0).T.tolist() if result.rank.size else None,  # [L, S]
    }
