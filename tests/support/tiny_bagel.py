"""A BAGEL model small enough to run in milliseconds, and packed batches for it."""

from collections.abc import Sequence

import numpy as np

from sgt_jax.data.examples import PlanItem
from sgt_jax.data.layouts.bagel import BagelLayout, SpecialTokens
from sgt_jax.data.packing import pack
from sgt_jax.models.bagel.config import BagelConfig

BUDGETS = {"und": 48, "vit": 12, "gen": 32, "labels": 10, "pixels:16x16": 2, "pixels:8x16": 1}


def config(**changes) -> BagelConfig:
    """Width 24, 2 layers, 1 ViT layer of patch 4, autoencoder of stride 2, latent tokens of stride 4."""
    return BagelConfig.from_dict(
        dict(
            llm=dict(
                hidden_size=24, intermediate_size=40, num_hidden_layers=2, num_attention_heads=3,
                num_key_value_heads=1, vocab_size=32,
            ),
            vit=dict(
                hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2, image_size=16,
                patch_size=4,
            ),
            vae=dict(ch=32, ch_mult=(1, 1), num_res_blocks=1, z_channels=2, scale_factor=0.5, shift_factor=0.1),
            latent_patch_size=2, max_latent_size=5, vit_max_num_patch_per_side=4, copy_init_moe=False,
        )
        | changes
    )  # fmt: skip


def random_params(made: BagelConfig, seed: int = 0, scale: float = 0.12) -> dict:
    """Normal parameters of `made`, norms' scales around 1: not what training starts from, but nothing is compiled."""
    import jax

    from sgt_jax.models.bagel.model import Bagel

    rng = np.random.default_rng(seed)

    def fill(path, leaf):
        ones = path[-1].key == "scale"
        return (rng.standard_normal(leaf.shape) * scale + ones).astype(np.float32)

    return jax.tree_util.tree_map_with_path(fill, jax.eval_shape(Bagel(made).init, jax.random.key(0)))


def layout() -> BagelLayout:
    """The layout of `config()`."""
    return BagelLayout(
        tokens=SpecialTokens(28, 29, 30, 31), vit_patch=4, vit_side=4, latent_stride=4, latent_side=5,
        canvases=((16, 16), (8, 16)),
    )  # fmt: skip


def picture(seed: int, height: int = 16, width: int = 16) -> np.ndarray:
    """A random picture, uint8."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def plans(seed: int = 0) -> list[tuple[PlanItem, ...]]:
    """A question about a picture, a picture to be painted from another, an edit with a clean latent."""
    return [
        (
            PlanItem("vit_image", picture(seed, 8, 12)),
            PlanItem("text", [1, 2, 3]),
            PlanItem("text", [4, 5], loss=True),
        ),
        (PlanItem("text", [6, 7]), PlanItem("vae_image", picture(seed + 1, 8, 16), loss=True)),
        (
            PlanItem("vae_image", picture(seed + 2, 16, 16)),
            PlanItem("text", [8, 9, 10], loss=True),
        ),
    ]


def batch(rows: Sequence[Sequence[tuple[PlanItem, ...]]], budgets: dict[str, int] = BUDGETS) -> dict:
    """Rows of plans, packed and padded."""
    made = layout()
    packs = [pack([made.lay_out(plan) for plan in row], made.spec, budgets) for row in rows]
    return {lane: {f: np.stack([p[lane][f] for p in packs]) for f in packs[0][lane]} for lane in packs[0]}
