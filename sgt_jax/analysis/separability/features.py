"""One vector per picture from each stage of the understanding path: encoder, connector, chosen decoder layers."""

import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from sgt_jax.analysis.batches import batches, vit_size
from sgt_jax.data.tasks import condition_items
from sgt_jax.errors import DataError
from sgt_jax.inference.assistant import Assistant
from sgt_jax.models.family import Family, ModelConfig
from sgt_jax.parallel import progress


def chosen_layers(
    model: Assistant, wanted: Sequence[int] | None = None, most: int = 8, painting: bool = False
) -> tuple[int, ...]:  # fmt: skip
    """Layers to look at, of the decoder that reads or of those that paint: those that were asked for (-1 is the last), or at
    most `most` evenly spaced ones.

    Raises:
      DataError: the model has no such layer.
      UnsupportedError: its family cannot be looked into.
    """
    count = (
        model.family.painting_layers(model.config) if painting else model.family.decoder_size(model.config)[0]
    )  # fmt: skip
    if not wanted:
        return tuple(sorted({round(x) for x in np.linspace(0, count - 1, min(count, most))}))
    if bad := [i for i in wanted if not -count <= i < count]:
        raise DataError(f"no decoder layer {bad[0]}: this model has layers 0 to {count - 1}")
    return tuple(sorted({i % count for i in wanted}))


def picture_features(
    model: Assistant, pictures: Sequence[np.ndarray], layers: Sequence[int], *, prompt: str = "", rows: int = 16
) -> dict[str, np.ndarray]:
    """Means over the image tokens of each picture, float32 [n, width], by name: "vit", "connector", "layer 3", ...

    Args:
      pictures: uint8 [H, W, 3], of any sizes.
      layers: decoder layers; the hidden state is the residual stream after the layer.
      prompt: a text read *before* the picture. None by default: image tokens see no text that stands after them, so a
        picture alone gives what any prompt after it would.
      rows: pictures per batch.
    """
    resize = vit_size(model)
    before = [prompt] if prompt else []
    plans = [condition_items([*before, picture], model.tokenizer.encode, see=resize) for picture in pictures]
    pooled = _program(model.family, model.config, tuple(layers))
    parts = []
    progress.begin("reading pictures", len(plans))
    for batch, real in batches(plans, model.layout(()), rows):
        parts.append({name: np.asarray(x)[:real] for name, x in pooled(model.params, batch).items()})
        progress.add(real)
    order = ["vit", "connector", *(f"layer {i}" for i in layers)]
    return {name: np.concatenate([part[name] for part in parts]) for name in order}


@functools.cache
def _program(family: Family, config: ModelConfig, layers: tuple[int, ...]) -> Callable[..., dict[str, jax.Array]]:
    """The compiled forward; two checkpoints of one architecture share it."""
    inner = family.model(config)

    @jax.jit
    def pooled(params, batch):
        out = family.reading_states(inner, params, batch, layers)
        und, vit = batch["und"]["vit"] >= 0, batch["vit"]["sample"] > 0
        cells = vit[:, :: vit.shape[1] // max(out["connector"].shape[1], 1)]
        found = {"vit": _mean(out["vit"], vit), "connector": _mean(out["connector"], cells)}
        layer = {f"layer {i}": out[f"layer {i}"][:, : und.shape[1]] for i in layers}
        return found | {name: _mean(x, und) for name, x in layer.items()}

    return pooled


def _mean(x: jax.Array, mask: jax.Array) -> jax.Array:
    """x [R, S, W] where mask [R, S] -> float32 [R, W]."""
    total = jnp.sum(jnp.where(mask[..., None], x.astype(jnp.float32), 0.0), axis=1)
    return total / jnp.maximum(jnp.sum(mask, axis=1), 1)[:, None]
