"""The attention rule against the reference's dense masks, in packed and in shuffled memory order."""

import jax
import numpy as np
import pytest

from sgt_jax import batch
from tests.support import paths

GOLDEN = paths.GOLDEN / "bagel"
CASES = [f"case{n}" for n in range(11)]


def token_info(sample_lens, split_lens, modes) -> batch.TokenInfo:
    """TokenInfo of a pack from the reference's lengths; the last sample (one split) is padding."""
    sample, split, order, mode = [], [], [], []
    lengths = iter(zip(split_lens, modes))
    for number, total in enumerate(sample_lens, 1):
        done = 0
        splits = 0
        while done < total:
            length, split_mode = next(lengths)
            sample += [number] * length
            split += [splits] * length
            order += range(done, done + length)
            mode += [split_mode] * length
            done += length
            splits += 1
        assert done == total
    sample = np.array(sample, np.int32)
    sample[sample == len(sample_lens)] = 0
    split, order, mode = (np.array(x, np.int32) for x in (split, order, mode))
    return batch.TokenInfo(sample, split, order, np.arange(len(order), dtype=np.int32), mode)


def golden(name: str) -> tuple[batch.TokenInfo, np.ndarray]:
    if name == "train":
        z = np.load(GOLDEN / "train_inputs.npz")
        info = token_info(z["sample_lens_padded"], z["split_lens_padded"], z["attn_modes_padded"])
        return info, z["attention_mask"]
    z = np.load(GOLDEN / "packing_cases.npz")
    info = token_info(z[f"{name}/sample_lens"], z[f"{name}/split_lens"], z[f"{name}/attn_modes"])
    return info, z[f"{name}/attention_mask"]


@pytest.mark.parametrize("name", [*CASES, "train"])
def test_attention_rule_is_the_references(name):
    info, expected = golden(name)
    real = len(expected)
    mask = batch.may_attend(info, info)
    np.testing.assert_array_equal(mask[:real, :real], expected)
    assert not mask[real:].any() and not mask[:, real:].any()  # padding neither attends nor is attended to


@pytest.mark.parametrize("name", ["case5", "train"])
def test_memory_order_is_free(name):
    info, expected = golden(name)
    real = len(expected)
    shuffle = np.random.default_rng(0).permutation(real)
    shuffled = batch.TokenInfo(*(x[:real][shuffle] for x in info))
    np.testing.assert_array_equal(batch.may_attend(shuffled, shuffled), expected[np.ix_(shuffle, shuffle)])
    # Queries and keys need not be the same slots: a block of queries, as in blockwise attention.
    block = batch.TokenInfo(*(x[3:10] for x in shuffled))
    np.testing.assert_array_equal(batch.may_attend(block, shuffled), expected[np.ix_(shuffle[3:10], shuffle)])


def test_rule_takes_rows_three_part_positions_and_jax_arrays():
    info, expected = golden("case5")
    real = len(expected)
    rows = batch.TokenInfo(*(np.stack([x[:real], x[:real]]) for x in info))
    rows = rows._replace(position=np.zeros((2, real, 3), np.int32))
    mask = jax.jit(batch.may_attend)(rows, rows)
    assert mask.shape == (2, real, real)
    np.testing.assert_array_equal(mask[1], expected)


def test_token_info_of_a_lane_and_real_slots():
    lane = {name: np.full((1, 3), n, np.int32) for n, name in enumerate(batch.TokenInfo._fields)}
    lane["token"] = np.zeros((1, 3), np.int32)
    assert batch.TokenInfo.of(lane).mode[0, 0] == 4
    lane["sample"] = np.array([[1, 2, 0]])
    assert batch.real_slots(lane) == 2
    assert batch.real_slots({"weight": np.array([[0.5, 0.0, 0.0]])}) == 1
