"""The smallest OmniGen2 with all its parts, for the nano tokenizer: patch 4, merge 2, latent tokens of 8 pixels."""

import jax
import jax.numpy as jnp
import numpy as np

from sgt_jax.data.text.tokenizer import Tokenizer
from sgt_jax.models.family import by_name

SIZE = 16


def values():
    """The sizes, as a run's `config.model` has them."""
    return dict(
        dit=dict(
            patch_size=2, in_channels=2, hidden_size=24, num_layers=1, num_refiner_layers=1, num_attention_heads=2,
            num_kv_heads=1, multiple_of=8, axes_dim_rope=(4, 4, 4), text_feat_dim=16,
        ),
        text=dict(
            hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1,
            vocab_size=128, mrope_section=(2, 1, 1),
        ),
        vision=dict(
            depth=2, hidden_size=16, num_heads=2, intermediate_size=16, out_hidden_size=16, patch_size=4, window_size=8,
            fullatt_block_indexes=(1,),
        ),
        vae=dict(ch=4, ch_mult=(1, 1, 1), num_res_blocks=1, z_channels=2, norm_groups=2),
        tokens=dict(
            im_start_token_id=1, im_end_token_id=2, pad_token_id=0, vision_start_token_id=3, vision_end_token_id=4,
            image_token_id=0, video_token_id=0, img_token_id=0,
        ),
        template="bare", min_pixels=64, max_pixels=256, scan_layers=True,
    )  # fmt: skip


def config(**changes):
    """A checked config; the keys are those of a run's `config.model`."""
    return by_name("omnigen2").config(values() | changes)


def layout(model_config, **options):
    """Its layout with the nano tokenizer."""
    options = {"canvases": ((SIZE, SIZE),)} | options
    return by_name("omnigen2").layout(model_config, Tokenizer.nano(), **options)


def random_params(model, seed=0):
    """Parameters of a fixed spread, drawn with NumPy: a fresh transformer would predict zeros."""
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    draw = np.random.default_rng(seed).standard_normal
    return jax.tree.map(lambda x: jnp.asarray(0.2 * draw(x.shape), jnp.float32), shapes)
