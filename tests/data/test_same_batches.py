"""The batches of nano training are those of an earlier version, to the bit; speeding their making up may not change them."""

import hashlib

import numpy as np
from sgt_jax.configs.study import first_bed

from sgt_jax.training import experiment

# Of the first two batches, recorded before lanes were filled in place. Another version of Pillow or NumPy may draw other
# pictures: then record it again with the code as it was before your change.
RECORDED = "d107d82e9230a5754595ad826d98011616f044d6a22de295aa3193f53f6a021b"


def test_drawn_scenes_and_packed_lanes():
    batches = iter(experiment.build(first_bed.get_config()).batches())
    found = hashlib.sha256()
    for _ in range(2):
        batch, info = next(batches)
        for lane, fields in sorted(batch.items()):
            for name, array in sorted(fields.items()):
                found.update(f"{lane}/{name} {array.shape} {array.dtype}".encode())
                found.update(np.ascontiguousarray(array).tobytes())
    assert found.hexdigest() == RECORDED
    assert info.cpu > 0  # what the log says of the host's work
