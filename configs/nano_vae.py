"""Trains the autoencoder of the nano models: FLUX's layout at 0.7 M parameters, for 32x32 photos and painted masks.

Command:   python -m sgt_jax.main --config=configs/nano_vae.py --workdir=/tmp/nano_vae
           python -m sgt_jax export-vae /tmp/nano_vae sgt_jax/assets/nano
Hardware:  2 CPU cores, 1 GB of memory, about twelve minutes.
Reaches:   see docs/nano_vae.md (measured). The second command measures the scale and the shift of the latents and writes
           ae.safetensors and vae.json, which configs/nano.py uses.

At this width every group of a group norm is one channel, so statistics depend on the picture's size and content. So the
autoencoder is trained at the size at which it is used, half on photos and half on masks, on scenes with one to four
objects: it reproduces colours of the palette that it has never seen badly.
"""

import ml_collections

SIZE = 32


def scenes(**options) -> dict:
    """Those of the pretrained model, with one object more and slightly smaller ones."""
    from sgt_jax.configs import nano_pretrain

    sizes = dict(small=(0.13, 0.16), large=(0.2, 0.25))
    return nano_pretrain.scenes(max_objects=4, turns=0, **options) | dict(sizes=sizes)


def get_config() -> ml_collections.ConfigDict:
    """The experiment; see configs/nano.py for the fields that are not explained here."""
    from sgt_jax.configs import nano

    c = nano.get_config()
    c.name = "nano_vae"
    c.total_steps = 3500
    c.model.vae = dict(
        ch=32, ch_mult=(1, 1, 2), num_res_blocks=1, z_channels=4, in_channels=3, out_ch=3,
        scale_factor=1.0, shift_factor=0.0,
    )  # fmt: skip
    c.vae_from = ""

    # -- Objective: mean squared error + l1_weight * mean absolute error + kl_weight * KL to a unit normal.
    c.objective = ml_collections.ConfigDict(dict(name="autoencoder", l1_weight=0.2, kl_weight=1e-4))
    c.freeze = ()
    c.optimizer.name = "adamw"
    c.optimizer.learning_rate = 2e-3
    c.schedule = dict(name="cosine", warmup_steps=50, decay_fraction=0.0, final_fraction=0.01)
    c.ema_decay = 0.995

    # -- Data: as many masks as photos.
    c.data.sources = ml_collections.ConfigDict(
        dict(
            train=scenes(seed=30, split="train", num=30_000),
            held_out=scenes(seed=30, split="test", num=1_600),
        )
    )
    c.data.mixture.understanding.weight = 0.0
    c.data.mixture.proxy.weight = 1.0
    c.data.mixture.text_to_image.weight = 1.0
    c.data.rows = 2
    c.data.budgets = {f"pixels:{SIZE}x{SIZE}": 8}  # pictures per row
    c.data.pool_size = 8

    c.evaluate_every = 1000
    c.evaluators = ml_collections.ConfigDict(
        dict(pictures=dict(type="reconstructions", source="held_out", n=256, palette="distinct", max_masks=8, seed=1, show=8,
                           proxy_options=dict(palette="distinct", style="plain")))
    )  # fmt: skip
    c.log_every = 100
    c.checkpoint = dict(every=1000, keep=1)
    c.report = False
    return c
