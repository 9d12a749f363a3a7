"""Turns a pack as the PyTorch reference lays it out (one sequence, index arrays) into a batch of lanes, one row.

Latent slots go to the gen lane, everything else to the und lane, each in sequence order, so that every recorded
per-slot array can be compared after one permutation (`ReferencePack.order`).
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from sgt_jax.batch import PackedBatch
from sgt_jax.models.bagel.config import BagelConfig


class ReferencePack(NamedTuple):
    """A recorded pack as lanes.

    Attributes:
      batch: one row; draws: the recorded randomness, as `Bagel.forward` takes it.
      order: int [N], slot in the reference's sequence of every slot of concat(und, gen).
      mse: int, slots of the gen lane that carry flow loss, in the reference's order.
    """

    batch: PackedBatch
    draws: dict[str, Any]
    order: np.ndarray
    mse: np.ndarray


def token_info(arrays: Mapping[str, np.ndarray], length: int) -> dict[str, np.ndarray]:
    """sample, split, order, position, mode of every slot [length] of a reference sequence.

    `arrays` holds sample_lens, split lengths and attention modes (with or without the padding at the end), and
    packed_position_ids.
    """
    suffix = "_padded" if "split_lens_padded" in arrays else ""
    splits, modes = arrays["split_lens" + suffix], arrays["attn_modes" + suffix]
    sample = np.repeat(np.arange(len(arrays["sample_lens"])), arrays["sample_lens"])[:length]
    split = np.repeat(np.arange(len(splits)), splits)[:length]
    mode = np.repeat(modes, splits)[:length]
    first = np.searchsorted(sample, np.arange(sample[-1] + 1))  # each sample's first slot
    info = {
        "sample": sample + 1,
        "split": split - split[first][sample],
        "order": np.arange(length) - first[sample],
        "position": arrays["packed_position_ids"][:length],
        "mode": mode,
    }
    return {name: values.astype(np.int32) for name, values in info.items()}


def to_lanes(arrays: Mapping[str, np.ndarray], config: BagelConfig) -> ReferencePack:
    """Converts the arrays of `train_inputs.npz`."""
    length = int(arrays["sequence_length"])
    info = token_info(arrays, length)
    latent = arrays["packed_vae_token_indexes"]
    is_gen = np.zeros(length, bool)
    is_gen[latent] = True
    und_slots, gen_slots = np.flatnonzero(~is_gen), np.sort(latent)
    if not np.array_equal(gen_slots, latent):
        raise ValueError("packed_vae_token_indexes is not in sequence order")

    token, vit_pointer = np.full(length, -1, np.int32), np.full(length, -1, np.int32)
    token[arrays["packed_text_indexes"]] = arrays["packed_text_ids"]
    vit_slots = arrays["packed_vit_token_indexes"]
    vit_pointer[vit_slots] = np.arange(len(vit_slots))

    # Latents: picture i covers the next h*w latent slots, the top left h x w tokens of the common canvas.
    pixels = arrays["padded_images"].transpose(0, 2, 3, 1)
    canvas = f"{pixels.shape[1]}x{pixels.shape[2]}"
    grid_width = pixels.shape[2] // config.latent_stride
    picture, place = [], []
    for i, (h, w) in enumerate(arrays["patchified_vae_latent_shapes"]):
        picture.append(np.full(h * w, i))
        place.append((np.arange(h)[:, None] * grid_width + np.arange(w)[None]).reshape(-1))
    mse = np.searchsorted(gen_slots, arrays["mse_loss_indexes"])
    noisy = np.zeros(len(gen_slots), np.int32)
    noisy[mse] = 1

    inverse = np.empty(length, np.int64)  # sequence slot -> slot of the und lane
    inverse[und_slots] = np.arange(len(und_slots))
    labels = arrays["ce_loss_indexes"]
    batch = {
        "und": {"token": token[und_slots], "vit": vit_pointer[und_slots], **_take(info, und_slots)},
        "vit": {
            "patches": arrays["packed_vit_tokens"],
            "table": arrays["packed_vit_position_ids"],
            "sample": info["sample"][vit_slots],
            # Pictures numbered over the whole pack: unique within every sample, which is all that matters.
            "image": np.repeat(np.arange(len(arrays["vit_token_seqlens"])), arrays["vit_token_seqlens"]) + 1,
        },
        "gen": {
            **_take(info, gen_slots),
            "table": arrays["packed_latent_position_ids"],
            "noisy": noisy,
            # Recorded times are per slot already, so every slot points to itself.
            "time": np.arange(len(gen_slots)),
            "picture:" + canvas: np.concatenate(picture),
            "token": np.concatenate(place),
        },
        "labels": {
            "slot": inverse[labels],
            "target": arrays["packed_label_ids"],
            "weight": arrays["ce_loss_weights"],
            "sample": info["sample"][labels],
        },
        "pixels:" + canvas: {"pixels": pixels},
    }
    draws = {
        "time": arrays["packed_timesteps"][None],
        "noise": arrays["noise"][None],
        "vae": {canvas: arrays["vae_eps"].transpose(0, 2, 3, 1)[None]},
    }
    return ReferencePack(
        batch={lane: {name: _row(x) for name, x in fields.items()} for lane, fields in batch.items()},
        draws=draws,
        order=np.concatenate([und_slots, gen_slots]),
        mse=mse,
    )


def _take(info: Mapping[str, np.ndarray], slots: np.ndarray) -> dict[str, np.ndarray]:
    return {name: values[slots] for name, values in info.items()}


def _row(x: np.ndarray) -> np.ndarray:
    """One row; integers as int32."""
    x = x.astype(np.int32) if np.issubdtype(x.dtype, np.integer) else x.astype(np.float32)
    return x[None]
