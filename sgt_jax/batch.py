"""What flows from data to model: lanes of slots, and the five facts per slot that attention needs. Imports no JAX.

A *batch* is a plain nested dict `{lane: {field: array}}`. Every array starts with `[rows, slots]`, where the number of
slots of a lane (its *budget*) is static. Which lanes and fields there are is the model family's business: see
`sgt_jax/data/layouts/bagel.py` for BAGEL's. Padding slots have `sample == 0`.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

Array = Any  # np.ndarray on the host, jax.Array on the device
PackedBatch = Mapping[str, Mapping[str, Array]]

# Attention modes of a split (a run of slots of one sample that came from one text or one picture).
CAUSAL, FULL, NOISE = 0, 1, 2


class TokenInfo(NamedTuple):
    """Attention and position facts of some slots; every field is int32.

    Slots may stand in memory in any order. A query `q` may attend to a key `k` iff both belong to the same sample, and
    either k's split is earlier and not NOISE, or both are in the same split and (k.order <= q.order or the split is FULL
    or NOISE). This is BAGEL's training mask and, with a key-value cache, its inference mask.

    Attributes:
      sample: [..., S], 1-based sample number within the row; 0 marks padding, which attends to nothing.
      split: [..., S], number of the split within its sample.
      order: [..., S], number of the slot within its sample.
      position: [..., S] or [..., S, 3], the rotary position.
      mode: [..., S], CAUSAL, FULL or NOISE, equal for all slots of a split.
    """

    sample: Array
    split: Array
    order: Array
    position: Array
    mode: Array

    @classmethod
    def of(cls, lane: Mapping[str, Array]) -> "TokenInfo":
        """The facts of one lane of a batch."""
        return cls(*(lane[name] for name in cls._fields))


def may_attend(query: TokenInfo, key: TokenInfo) -> Array:
    """The attention rule as a dense boolean array [..., Q, K]; works on NumPy and on JAX arrays alike."""
    q = TokenInfo(*(x[..., :, None] for x in query._replace(position=query.sample)))
    k = TokenInfo(*(x[..., None, :] for x in key._replace(position=key.sample)))
    same_sample = (q.sample == k.sample) & (k.sample > 0)
    earlier = (k.split < q.split) & (k.mode != NOISE)
    within = (k.split == q.split) & ((k.order <= q.order) | (k.mode != CAUSAL))
    return same_sample & (earlier | within)


def real_slots(lane: Mapping[str, Array]) -> int:
    """How many slots of a lane are not padding."""
    if "sample" in lane:
        return int(np.count_nonzero(lane["sample"]))
    return int(np.count_nonzero(lane["weight"]))


PIXELS = "pixels:"  # lanes of canvases are called "pixels:HxW"


def canvases_of(batch: PackedBatch) -> dict[str, tuple[int, int]]:
    """{"HxW": (H, W)} for the canvas lanes of a batch."""
    names = sorted(lane.removeprefix(PIXELS) for lane in batch if lane.startswith(PIXELS))
    return {name: tuple(int(side) for side in name.split("x")) for name in names}
