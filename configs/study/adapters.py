"""What do adapters gain and lose beside full tuning? SFT with segmentation: everything trained, adapters, adapters over int8.

Command:   python -m sgt_jax.study --config=configs/study/adapters.py --workdir=/tmp/adapters \
               --results=docs/results/adapters --reuse=docs/results/proxies
Hardware:  2 CPU cores; kill it anywhere and run the same command again.

All arms see the same batches:

  mixed      everything trained, as in the other studies of the first bed (taken from the study of proxies)
  lora       adapters of rank 32 of both experts, trained by AdamW
  lora_int8  the same over a base whose projections are 8-bit integers
"""

import ml_collections
from sgt_jax.configs.study import common

RATE = 1e-3  # of adapters: what nano's AdamW has for all that is no matrix; not tuned


def lora(base_dtype: str = "") -> dict:
    """Adapters of both experts over a base of a dtype."""
    return dict(
        adapter=dict(rank=32, targets="both", base_dtype=base_dtype),
        optimizer=dict(name="adamw", learning_rate=RATE),
    )


def get_config() -> ml_collections.ConfigDict:
    """The study; see configs/study/common.py for base and scores."""
    about = "What do adapters gain and lose beside full tuning? Same batches; 8-bit integers halve the memory of a bf16 base."
    arms = dict(mixed={}, lora=lora(), lora_int8=lora("int8"))
    c = common.study("adapters", arms, "lora", about)
    c.references = ("mixed", "base")
    del c.arms["sft"]
    return c
