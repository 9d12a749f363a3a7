"""Streaming published tensors into parameter trees and back, whatever the family: a small map of every kind."""

import functools
import os
import subprocess
import sys

import jax
import ml_dtypes
import numpy as np
import pytest

from sgt_jax import trees
from sgt_jax.checkpoints import importing
from sgt_jax.checkpoints.exporting import write_published
from sgt_jax.checkpoints.importing import Files
from sgt_jax.checkpoints.names import Source, leaves
from sgt_jax.checkpoints.safetensors import Weights
from sgt_jax.checkpoints.writer import write_arrays
from sgt_jax.errors import CheckpointError
from tests.support.paths import REPOSITORY

NAMES = {
    "embed.weight": Source("embed/embedding", (20, 8), (0, 1)),
    "fc.weight": Source("fc/kernel", (12, 8), (1, 0)),
    "fc.bias": Source("fc/bias", (12,), (0,)),
    "conv.weight": Source("conv/kernel", (4, 6, 3, 3), (2, 3, 1, 0)),
    "one.weight": Source("one/kernel", (4, 6, 1, 1), (1, 0)),
    "linear.weight": Source("linear/kernel", (4, 6), (None, None, 1, 0)),
    "scale": Source("scale", (), ()),
    **{f"layers.{i}.w": Source("layers/w/kernel", (300, 16), (1, 0), i) for i in range(3)},
    **{f"layers.{i}.norm": Source("layers/norm/scale", (16,), (0,), i) for i in range(3)},
}


def some_tensors(dtype) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {name: rng.normal(size=source.shape).astype(dtype) for name, source in NAMES.items()}


def load(path, sharding=None, dtype=None, names=NAMES) -> dict:
    with Files([Weights(path)]) as files:
        importing.check_names(path, files.tensors, names)
        return importing.load_tree(files, names, sharding, dtype)


def check(tree: dict, tensors: dict[str, np.ndarray]):
    """Compares with plain NumPy, written out by hand."""
    t = tensors
    expected = {
        "embed": {"embedding": t["embed.weight"]},
        "fc": {"kernel": t["fc.weight"].T, "bias": t["fc.bias"]},
        "conv": {"kernel": t["conv.weight"].transpose(2, 3, 1, 0)},
        "one": {"kernel": t["one.weight"][:, :, 0, 0].T},
        "linear": {"kernel": t["linear.weight"].T[None, None]},
        "scale": t["scale"],
        "layers": {
            "w": {"kernel": np.stack([t[f"layers.{i}.w"].T for i in range(3)])},
            "norm": {"scale": np.stack([t[f"layers.{i}.norm"] for i in range(3)])},
        },
    }
    assert jax.tree.structure(tree) == jax.tree.structure(expected)
    for found, wanted in zip(jax.tree.leaves(tree), jax.tree.leaves(expected)):
        assert isinstance(found, jax.Array)
        assert found.dtype == wanted.dtype
        assert found.shape == wanted.shape
        assert np.asarray(found).tobytes() == np.ascontiguousarray(wanted).tobytes()


def get(tree):
    """A getter of leaves by path."""
    return functools.partial(trees.at, tree)


@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16, np.float16])
def test_there_and_back(tmp_path, dtype):
    tensors = some_tensors(dtype)
    write_arrays(tmp_path / "a", tensors, {"format": "pt"})
    tree = load(tmp_path / "a")
    check(tree, tensors)
    write_published(tmp_path / "b", NAMES, get(tree), metadata={"format": "pt"})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_casts_on_the_way(tmp_path):
    tensors = some_tensors(ml_dtypes.bfloat16)
    write_arrays(tmp_path / "a", tensors)
    masters = load(tmp_path / "a", dtype="float32")
    check(masters, {name: array.astype(np.float32) for name, array in tensors.items()})
    write_published(tmp_path / "b", NAMES, get(masters), "bfloat16")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    # A NumPy tree is exported as well.
    write_published(tmp_path / "c", NAMES, get(jax.tree.map(np.asarray, masters)), "bfloat16")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "c").read_bytes()


def test_float64_files_become_float32_where_jax_has_no_float64(tmp_path):
    tensors = some_tensors(np.float64)
    write_arrays(tmp_path / "a", tensors)
    check(load(tmp_path / "a"), {name: array.astype(np.float32) for name, array in tensors.items()})


def test_a_stack_of_mixed_dtypes_takes_the_widest(tmp_path):
    tensors = some_tensors(ml_dtypes.bfloat16)
    tensors["layers.1.w"] = tensors["layers.1.w"].astype(np.float32)
    write_arrays(tmp_path / "a", tensors)
    for i in (0, 2):
        tensors[f"layers.{i}.w"] = tensors[f"layers.{i}.w"].astype(np.float32)
    check(load(tmp_path / "a"), tensors)


@pytest.mark.parametrize("cpu", [True, False])
@pytest.mark.parametrize("stored", ["bfloat16", "float32", "float64"])
def test_many_small_blocks_on_two_threads_give_the_same_numbers(tmp_path, monkeypatch, stored, cpu):
    tensors = some_tensors(np.dtype(stored))
    write_arrays(tmp_path / "a.safetensors", tensors)
    monkeypatch.setattr(importing, "_BLOCK", 100)
    if not cpu:  # as where JAX has a TPU alone
        monkeypatch.setattr(importing, "_cpu", lambda: None)
    check(load(tmp_path / "a.safetensors", dtype="float32"), {k: x.astype("float32") for k, x in tensors.items()})


def test_what_a_thread_meets_is_raised(tmp_path, monkeypatch):
    path = tmp_path / "a.safetensors"
    write_arrays(path, some_tensors(np.float32))
    monkeypatch.setattr(importing, "_BLOCK", 100)
    with Files([Weights(path)]) as files, pytest.raises(CheckpointError, match="became shorter"):
        os.truncate(path, os.path.getsize(path) - 4000)
        importing.load_tree(files, NAMES)


def test_one_error_lists_every_wrong_name(tmp_path):
    tensors = some_tensors(np.float32)
    for i in range(3):
        del tensors[f"layers.{i}.norm"]
        tensors[f"other.{i}"] = np.zeros(2, np.float32)
        tensors[f"layers.{i}.w"] = np.zeros([16, 300], np.float32)
    tensors["evil\nname"] = np.zeros(1, np.float32)
    write_arrays(tmp_path / "a", tensors)
    with pytest.raises(CheckpointError) as caught:
        load(tmp_path / "a")
    message = str(caught.value)
    assert message.startswith(str(tmp_path / "a"))
    for i in range(3):
        assert f"layers.{i}.norm" in message
        assert f"other.{i}" in message
        assert f"layers.{i}.w: [16, 300] in the file, [300, 16] by the configs" in message
    for title in ("3 missing", "4 unexpected", "3 misshaped"):
        assert title in message
    assert "evil\\nname" in message and "evil\nname" not in message


def test_inconsistent_maps_are_program_errors():
    bad = dict(NAMES)
    del bad["layers.1.w"]
    with pytest.raises(ValueError, match="layers/w/kernel"):
        leaves(bad)
    bad = {**NAMES, "layers.1.w": NAMES["layers.1.w"]._replace(shape=(16, 16))}
    with pytest.raises(ValueError, match="layers/w/kernel"):
        leaves(bad)


def test_two_files_with_the_same_name(tmp_path):
    for name in "ab":
        write_arrays(tmp_path / name, {"x": np.zeros(2)})
    with pytest.raises(CheckpointError, match="both hold 'x'"):
        Files([Weights(tmp_path / "a"), Weights(tmp_path / "b")])


def test_exporting_the_wrong_tree(tmp_path):
    names = {"a": Source("a", (3, 2), (1, 0))}
    with pytest.raises(ValueError, match="needs"):
        write_published(tmp_path / "a", names, lambda path: np.zeros([3, 2], np.float32))
    assert os.listdir(tmp_path) == []


SHARDED = """
import os, sys
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=4"
os.environ["JAX_PLATFORMS"] = "cpu"
import jax, numpy as np
from jax.sharding import NamedSharding, PartitionSpec as P
import sgt_jax.checkpoints.safetensors as reader
from tests.checkpoints import test_importing as t

mesh = jax.make_mesh((2, 2), ("a", "b"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
specs = {
    "embed/embedding": P(("a", "b")), "fc/kernel": P("b", "a"), "fc/bias": P("a"),
    "conv/kernel": P(None, None, "a", "b"),
    "one/kernel": P("b"), "linear/kernel": P(None, None, "a"), "layers/w/kernel": P(None, "a", "b"),
    "layers/norm/scale": P(None, "b"),
}
tensors = t.some_tensors(np.float32)
folder = sys.argv[1]
read = 0
real = os.preadv

def counting(descriptor, buffers, offset):
    global read
    read += sum(len(buffer) for buffer in buffers)
    return real(descriptor, buffers, offset)

os.preadv = counting
reader._SHORT_RUN = 1  # tiny tensors: fetch exactly the wanted bytes
t.write_arrays(folder + "/a", tensors)
tree = t.load(folder + "/a", lambda path, shape: NamedSharding(mesh, specs.get(path, P())))
# Every part is read once, though two devices hold the same part of some leaves.
assert read <= os.path.getsize(folder + "/a") + 40, read
t.check(tree, tensors)
assert tree["layers"]["w"]["kernel"].sharding.spec == P(None, "a", "b")
t.write_published(folder + "/b", t.NAMES, t.get(tree))
assert open(folder + "/a", "rb").read() == open(folder + "/b", "rb").read()
print("fine")
"""


def test_sharded_over_four_devices(tmp_path):
    command = [sys.executable, "-c", SHARDED, str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=REPOSITORY)
    assert result.stdout == "fine\n", result.stderr
