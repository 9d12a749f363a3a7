"""Qwen2.5-VL as pure functions over lanes: what it sees, what it makes of text and pictures, and its logits."""

from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from sgt_jax.batch import TokenInfo
from sgt_jax.models.layers import product
from sgt_jax.models.omnigen2.config import OmniGen2Config
from sgt_jax.models.omnigen2.mllm.text import TextModel
from sgt_jax.models.omnigen2.mllm.vision import VisionTower
from sgt_jax.models.stack import unstacked
from sgt_jax.models.transformer import Cache, OpenCache
from sgt_jax.parallel.partitioning import constrain

Params = Mapping[str, Any]  # {"text": ..., "vision": ...}
Lane = Mapping[str, jax.Array]


class Mllm:
    """A Qwen2.5-VL; holds no arrays."""

    def __init__(self, config: OmniGen2Config) -> None:
        self.config = config
        self.vision = VisionTower(config)
        self.text = TextModel(config)

    def init(self, key: jax.Array) -> dict[str, Any]:
        """Fresh float32 parameters {"text", "vision"}; pure."""
        # Drawn in stacked form always: one layer is traced instead of all, and both forms start from equal values.
        cfg = self.config.replace(scan_layers=True, remat="none", attention="xla")
        text_key, vision_key = jax.random.split(key)
        index = jnp.zeros((1, 1), jnp.int32)
        info = TokenInfo(index, index, index, jnp.zeros((1, 1, 3), jnp.int32), index)
        x = jnp.zeros((1, 1, cfg.text.hidden_size))
        cells = jnp.zeros((1, cfg.vision.spatial_merge_size**2), jnp.int32)
        lane = {name: cells for name in ("row", "column", "sample", "image", "window")}
        lane["patches"] = jnp.zeros((*cells.shape, cfg.vision.patch_width))

        def fresh(module: nn.Module, key: jax.Array, *args: Any, **kwargs: Any) -> dict[str, Any]:
            found = module.init(key, *args, **kwargs)["params"]
            return found if self.config.scan_layers else unstacked(found)

        return {
            "text": fresh(TextModel(cfg), text_key, x, info, method="touch"),
            "vision": fresh(VisionTower(cfg), vision_key, lane),
        }

    def see(self, params: Params, lane: Lane, capture: Sequence[str] = ()) -> Any:
        """The vision lane -> image tokens [R, cells, T], in the lane's order; with `capture` also inner states.

        See `VisionTower.__call__` for the lane and the names.
        """
        seen, aux = self.vision.apply({"params": params["vision"]}, lane, tuple(capture))
        return (seen, aux) if capture else seen

    def embed(self, params: Params, und: Lane, seen: jax.Array | None) -> jax.Array:
        """Embeddings [R, U, T] of "token", and of the seen tokens where "image" (their slot, -1 for text) says so."""
        token = jnp.maximum(und["token"], 0)
        x = self.text.apply({"params": params["text"]}, token, method="embed_tokens")
        x = constrain(x, "rows", "slots", None)
        if seen is None or seen.shape[1] == 0:
            return x
        pointer = und["image"]
        picked = jnp.take_along_axis(constrain(seen, "rows", None, None), jnp.maximum(pointer, 0)[..., None], axis=1)
        return jnp.where((pointer >= 0)[..., None], constrain(picked, "rows", "slots", None).astype(x.dtype), x)

    def hidden(self, params: Params, und: Lane, seen: jax.Array | None, capture: Sequence[str] = ()) -> Any:
        """States [R, U, T] after the final norm; with `capture` also {"embeds", "hidden_3", ...}.

        Args:
          und: "token", "image" (slot among the seen tokens, -1 for text) [R, U], and the facts of `TokenInfo` with
            positions [R, U, 3]; every sample is one causal split. Optional "silent": see `TextModel.__call__`.
          seen: as from `see`; None without pictures.
        """
        x = self.embed(params, und, seen)
        h, aux = self.run(params, x, TokenInfo.of(und), capture=capture, silent=und.get("silent"))
        if "embeds" in capture:
            aux["embeds"] = x
        return (h, aux) if capture else h

    def run(
        self, params: Params, x: jax.Array, info: TokenInfo, cache: Cache | OpenCache | None = None,
        capture: Sequence[str] = (), return_kv: bool = False, silent: jax.Array | None = None,
    ) -> tuple[jax.Array, dict[str, Any]]:  # fmt: skip
        """The text model over embeddings; see `TextModel.__call__`."""
        return self.text.apply({"params": params["text"]}, x, info, cache, tuple(capture), return_kv, silent)

    def logits(self, params: Params, h: jax.Array) -> jax.Array:
        """Final states [..., T] -> float32 logits [..., vocabulary]."""
        cfg = self.config
        if not cfg.text.tie_word_embeddings:
            return self.text.apply({"params": params["text"]}, h, method="head")
        table = params["text"]["embed"]["embedding"]
        return product(h.astype(cfg.compute_dtype), table.T, cfg.precision, jnp.float32)
