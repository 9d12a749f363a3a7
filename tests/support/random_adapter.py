"""Adapters with random numbers, for any model whose modules are known."""

import numpy as np

from sgt_jax.checkpoints.adapters import Adapter, Low, Settings

TARGETS = ("q_proj", "v_proj_moe_gen", "mlp_moe_gen.down_proj")
RULES = Settings(3, 6.0, TARGETS)


def random_adapter(modules, settings, dora=False):
    """Adapters with random numbers for all modules that the settings name."""
    rng, found = np.random.default_rng(0), {}
    for module, source in sorted(modules.items()):
        if settings.adapts(module):
            outputs, inputs = source.shape
            a, b = rng.normal(size=(settings.rank, inputs)), rng.normal(size=(outputs, settings.rank))
            magnitude = rng.uniform(0.5, 2, outputs).astype(np.float32) if dora else None
            found[module] = Low(a.astype(np.float32), b.astype(np.float32), settings.scale_of(module), magnitude)
    return Adapter("adapter", found)
