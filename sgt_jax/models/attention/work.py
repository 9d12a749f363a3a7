"""A typical pack of SGT data as TokenInfo, to say how much of the attention a plan must expect. No data is read.

Two painted photos to one question about a picture, at the sizes that SAM-SGT and LLaVA-OneVision have on average.
"""

from collections.abc import Mapping

import jax.numpy as jnp
import numpy as np

from sgt_jax.batch import CAUSAL, FULL, NOISE, TokenInfo
from sgt_jax.models.attention import blocks, segment_info

# (mode, und slots, vit slots, gen slots) per split. A 3:2 photo at 224 pixels and its map at 1024; a picture of 640x480.
_PAINTING = ((FULL, 178, 176, 0), (CAUSAL, 14, 0, 0), (NOISE, 2, 0, 2752))
_QUESTION = ((FULL, 1532, 1530, 0), (CAUSAL, 60, 0, 0), (CAUSAL, 90, 0, 0))


def typical_row(budgets: Mapping[str, int]) -> tuple[TokenInfo, TokenInfo]:
    """Facts of the decoder's slots (und, then gen) and of the ViT's, [1, S] each, filled as far as budgets allow."""
    facts: dict[str, list[np.ndarray]] = {"und": [], "vit": [], "gen": []}
    left = {lane: budgets.get(lane, 0) for lane in facts}
    sample = image = 0
    while True:
        wanted = _QUESTION if sample % 3 == 2 else _PAINTING
        needs = {lane: sum(split[i] for split in wanted) for i, lane in ((1, "und"), (2, "vit"), (3, "gen"))}
        if any(needs[lane] > left[lane] for lane in left):
            break
        sample += 1
        order = 0
        for number, (mode, und, vit, gen) in enumerate(wanted):
            for lane, count in (("und", und), ("gen", gen)):
                slots = np.full((4, count), sample)
                slots[1], slots[2], slots[3] = number, order + np.arange(count), mode
                facts[lane].append(slots)
                order += count
            image += vit > 0
            facts["vit"].append(np.full((1, vit), image))
        left = {lane: left[lane] - needs[lane] for lane in left}

    def lane(name: str, fields: int) -> np.ndarray:
        made = np.concatenate([np.zeros((fields, 0), np.int64), *facts[name]], axis=1)
        return np.pad(made, ((0, 0), (0, budgets.get(name, 0) - made.shape[1]))).astype(np.int32)

    sample_, split, order_, mode_ = np.concatenate([lane("und", 4), lane("gen", 4)], axis=1)[:, None]
    pictures = lane("vit", 1)
    return TokenInfo(sample_, split, order_, order_, mode_), segment_info(np.minimum(pictures, 1), pictures)


def attention_work(info: TokenInfo, block: int) -> tuple[float, int, float]:
    """Allowed pairs of a row, block pairs in all, and the share of them that holds an allowed pair."""
    slots = info.sample.shape[1]
    block = min(block, -(-max(slots, 1) // 128) * 128)
    info = TokenInfo(*(jnp.asarray(x) for x in info))
    found = blocks.intervals(info, info)
    # Ranks count slots, so an interval's length is the number of queries that see the key.
    pairs = float(jnp.sum(jnp.maximum(found.last.astype(jnp.float32) - found.first + 1, 0.0) * (info.sample > 0)))
    active = blocks.block_map(blocks.padded(found, block, block), block, block)
    return pairs, active.size, float(jnp.mean(active))
