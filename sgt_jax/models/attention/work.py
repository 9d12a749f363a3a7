"""A typical pack of SGT data as TokenInfo, to say how much of the attention a plan must expect. No data is read.

Two painted photos to one question about a picture, at the sizes that SAM-SGT and LLaVA-OneVision have on average.
"""

import jax.numpy as jnp

from sgt_jax.batch import TokenInfo
from sgt_jax.models.attention import AUTO, blocks, blockwise


def attention_work(info: TokenInfo, block: int, backend: str = "tpu") -> tuple[float, int, float]:
    """Allowed pairs of a row, block pairs in all, and the share of them that holds an allowed pair.

    Args:
      info: facts of the slots, fields [1, S]; block: the config's `attention_block`; backend: its `attention`, which
        says how a lane is cut into blocks.
    """
    slots = info.sample.shape[1]
    if backend in ("blockwise", AUTO):
        block = blockwise.block_size(slots, block)
    else:
        block = min(block, -(-max(slots, 1) // 128) * 128)
    info = TokenInfo(*(jnp.asarray(x) for x in info))
    found = blocks.intervals(info, info)
    # Ranks count slots, so an interval's length is the number of queries that see the key.
    pairs = float(jnp.sum(jnp.maximum(found.last.astype(jnp.float32) - found.first + 1, 0.0) * (info.sample > 0)))
    active = blocks.block_map(blocks.padded(found, block, block), block, block)
    return pairs, active.size, float(jnp.mean(active))
