"""A folder in BAGEL's published layout with random weights, to time loading, sampling and training of a size that ships not.

python -m sgt_jax.timing.published /tmp/model --size 850m --dtype bfloat16
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sgt_jax import errors

# Decoder and ViT; one ViT layer more than is used, as in BAGEL. Heads of 64 in the ViT, of 64 and 128 in the decoder.
SIZES: dict[str, dict[str, dict[str, int]]] = {
    "47m": dict(
        llm=dict(hidden_size=512, intermediate_size=2048, num_hidden_layers=4, num_attention_heads=8,
                 num_key_value_heads=2, vocab_size=8192),
        vit=dict(hidden_size=192, intermediate_size=768, num_hidden_layers=5, num_attention_heads=3),
    ),
    "850m": dict(
        llm=dict(hidden_size=1280, intermediate_size=5120, num_hidden_layers=14, num_attention_heads=10,
                 num_key_value_heads=2, vocab_size=32768),
        vit=dict(hidden_size=768, intermediate_size=3072, num_hidden_layers=13, num_attention_heads=12),
    ),
    "tiny": dict(
        llm=dict(hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2,
                 num_key_value_heads=1, vocab_size=128),
        vit=dict(hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2),
    ),
}  # fmt: skip


def write(folder: Path, size: str, dtype: str = "float32") -> None:
    """Writes a model of SIZES with the nano model's tokenizer; all weights of `dtype` but the autoencoder's, in float32.

    Raises:
      CheckpointError: the folder exists and is not empty, or the disk is full.
    """
    import jax

    from sgt_jax.assets import resource
    from sgt_jax.models.bagel.config import BagelConfig
    from sgt_jax.models.bagel.export import export_published
    from sgt_jax.models.bagel.model import Bagel
    from sgt_jax.trees import path_name

    config = BagelConfig.from_dict({
        **SIZES[size],
        "vae": dict(ch=32, ch_mult=(1, 1, 2, 2), num_res_blocks=1, z_channels=16),
        "special_tokens": dict(bos_token_id=1, eos_token_id=2, start_of_image=3, end_of_image=4),
    })  # fmt: skip
    rng = np.random.default_rng(0)
    pool = rng.standard_normal(1 << 22, np.float32)  # drawn once and repeated: what the numbers are does not matter

    def drawn(path: tuple, leaf: Any) -> np.ndarray:
        shape, name = leaf.shape, path_name(path)
        if name.endswith("scale"):
            return 1 + 0.02 * np.resize(pool[rng.integers(1 << 20) :], shape)
        spread = 0.02 if len(shape) < 2 else np.prod(shape[:-1]) ** -0.5
        return np.resize(pool[rng.integers(1 << 20) :], shape) * np.float32(spread)

    shapes = jax.eval_shape(Bagel(config).init, jax.random.key(0))
    params = jax.tree_util.tree_map_with_path(drawn, shapes)
    export_published(params, config, folder, np.dtype(dtype), extra_files=[resource("package:nano/tokenizer.json")])


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    flags = argparse.ArgumentParser(description="write a published folder with random weights")
    flags.add_argument("folder", type=Path)
    flags.add_argument("--size", default="47m", choices=SIZES)
    flags.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    return flags


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    options = parser().parse_args(arguments)
    return errors.guarded(lambda: write(options.folder, options.size, options.dtype))


if __name__ == "__main__":
    raise SystemExit(main())
