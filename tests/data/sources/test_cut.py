"""skip and limit cut any source of files in two: one to train on, one to be asked about."""

import pytest

from sgt_jax.data.sources import open_source
from sgt_jax.errors import DataError
from tests.support import local_road


def test_two_pieces_of_one_folder_share_nothing_and_leave_nothing_out(tmp_path):
    local_road.sam_sgt(tmp_path, lost=0)
    spec = dict(type="sam_sgt", root=str(tmp_path), index="file_names/sam_190k_new.txt")
    whole = [example.name for example in open_source(spec)]
    held_out, rest = open_source(spec | {"limit": 2}), open_source(spec | {"skip": 2})
    assert [e.name for e in held_out] == whole[:2] and [e.name for e in rest] == whole[2:] and len(whole) == 7
    middle = open_source(spec | {"skip": 2, "limit": 4})
    assert len(middle) == 2 and middle[1].name == whole[3]
    assert [record.name for shard in rest.shards(3) for record in shard] == whole[2:]
    with pytest.raises(IndexError):
        held_out[2]
    for wrong, words in ((dict(skip=7), "leave none of its 7 records"), (dict(skip=-1), "a whole number from 0 on")):
        with pytest.raises(DataError, match=words):
            open_source(spec | wrong)
