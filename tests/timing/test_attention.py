"""The timing of attention: its pack is what it says, it visits what it must, and it prints a line a backend."""

import numpy as np

from sgt_jax.batch import CAUSAL, FULL, NOISE
from sgt_jax.timing import attention


def test_the_pack_has_equal_samples_of_three_splits():
    info = attention.pack(103, 4)
    sample = info.sample[0]
    assert [int(np.count_nonzero(sample == n)) for n in (1, 2, 3, 4, 0)] == [25, 25, 25, 25, 3]
    modes = [info.mode[0][(sample == 1) & (info.split[0] == split)] for split in (0, 1, 2)]
    assert [(set(mode.tolist()), len(mode)) for mode in modes] == [({CAUSAL}, 5), ({FULL}, 10), ({NOISE}, 10)]


def test_a_line_a_backend_and_no_block_for_nothing(capsys):
    options = "--slots 160 --samples 2 --heads 2 --kv-heads 1 --size 8 --rounds 1 --block 32".split()
    assert attention.main(options) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["xla", "blockwise", "blockwise"]
    visits, holding = attention.visited(attention.pack(160, 2), 32)
    assert 0 < visits == holding < 25
