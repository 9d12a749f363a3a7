"""The nano experiments at a size for tests: one small layer of everything, a few scenes, untrained autoencoder."""

from ml_collections import ConfigDict
from sgt_jax.configs import nano, nano_omnigen2

from tests.support import tiny_omnigen2


def config(**changes):
    """configs/nano.py made tiny; `changes` are top-level fields."""
    c = nano.get_config()
    c.name = "tiny"
    c.model.llm.update(
        hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1
    )
    c.model.vit.update(hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2)
    c.model.vae = dict(ch=32, ch_mult=(1, 1, 1), num_res_blocks=1, z_channels=2)
    return _small(c, changes)


def omnigen2(**changes):
    """configs/nano_omnigen2.py made tiny: on the pictures of configs/nano.py, and without its lessons."""
    c = nano_omnigen2.get_config()
    c.name = "tiny_omnigen2"
    c.data.sources = nano.get_config().data.sources
    c.data.stages, c.data.on_bad = (), "error"
    m = c.data.mixture
    m.photo.weight = m.lessons.weight = 0.0
    m.lessons.source = "train"
    m.proxy.weight, m.understanding.weight, m.text_to_image.weight = 2.0, 1.0, 1.0
    c.data.budgets = {
        "und": 160, "vit": 192, "labels": 12, "text": 64, "gen": 48, "flow": 3, "pixels:32x32": 3,
    }  # fmt: skip
    c.model = ConfigDict(tiny_omnigen2.values() | dict(max_pixels=nano.SIZE**2))
    return _small(c, changes)


FAMILIES = {"bagel": config, "omnigen2": omnigen2}


# Budgets of packs of one sample, by family.
LACKING = {
    "bagel": {"und": 112, "vit": 16, "gen": 16, "labels": 16, "pixels:32x32": 1},
    "omnigen2": {"und": 128, "vit": 64, "gen": 16, "labels": 16, "text": 48, "flow": 1, "pixels:32x32": 1},
}


def lacking(family="bagel", **changes):
    """One sample a row: it then lacks labels (a drawing, a proxy), latents (a question) or pictures seen (a drawing)."""
    c = FAMILIES[family](**changes)
    c.data.pool_size = 1
    c.data.budgets = LACKING[family]
    for kind in ("proxy", "understanding", "text_to_image"):
        c.data.mixture[kind].weight = 1.0
    return c


def _small(c, changes):
    """Few steps of few scenes."""
    c.total_steps = 20
    c.cpu_devices = 2
    c.vae_from = ""
    for source in c.data.sources.values():
        source.num = 40
    c.data.rows = 4
    c.data.prefetch = 2
    c.data.pool_size = 4
    c.schedule = dict(name="constant", warmup_steps=2)
    c.log_every = 1
    c.evaluate_every = 1000
    c.evaluators = {}
    c.checkpoint.every = 10
    c.report = False
    c.update(changes)
    return c
