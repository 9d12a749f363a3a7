"""Helpers for tests of sources: pictures as encoded bytes, files in trees, and reading everything that a source has."""

import io
import pickle
from collections import Counter

import numpy as np
from PIL import Image

from sgt_jax.data.stored.record import Bad, BadRecord, decode, from_bytes, to_bytes


def encoded(array, form="PNG", **options):
    """An array or Pillow image as the bytes of a picture file."""
    out = io.BytesIO()
    picture = array if isinstance(array, Image.Image) else Image.fromarray(np.asarray(array))
    picture.save(out, form, **options)
    return out.getvalue()


def photo(number=0, width=12, height=8, form="JPEG"):
    """A flat photo that tells its number by its red channel (to a few levels, after JPEG)."""
    return encoded(Image.new("RGB", (width, height), (number, 100, 200)), form)


def put(path, data):
    """Writes a file and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


def read_all(source):
    """({name: example}, [Bad]) of all shards, by the road of `ingest`: pickled shard, stored form and back, decoded.

    Asserts that no record comes twice.
    """
    good, bad = {}, []
    for shard in source.shards(2):
        for item in pickle.loads(pickle.dumps(shard)):
            if isinstance(item, Bad):
                bad.append(item)
                continue
            record = from_bytes(to_bytes(item))
            assert record.name not in good, f"{record.name} came twice"
            try:
                good[record.name] = decode(record)
            except BadRecord as error:
                bad.append(Bad(record.name, error.kind, str(error)))
    return good, bad


def kinds(bad):
    """How many of each kind."""
    return dict(Counter(b.kind for b in bad))
