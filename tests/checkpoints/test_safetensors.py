"""The safetensors reader and writer: agreement with the `safetensors` library, and hostile files."""

import json
import os
import resource
import subprocess
import sys
import warnings

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from sgt_jax.checkpoints import writer as writer_module
from sgt_jax.checkpoints.header import DTYPES
from sgt_jax.checkpoints.safetensors import Weights, WeightsFile
from sgt_jax.checkpoints.writer import Writer, write_arrays
from sgt_jax.errors import CheckpointError
from tests.support.hostile_checkpoints import GOOD, assemble, layout, mutants
from tests.support.paths import REPOSITORY

CHILD = """
import pathlib, resource, sys
from sgt_jax.checkpoints.header import CheckpointError
from sgt_jax.checkpoints.safetensors import Weights
base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for line in pathlib.Path(sys.argv[1]).read_text().splitlines():
    path = line
    try:
        with Weights(path) as weights:
            for name in weights.tensors:
                weights.read(name)
        print("ACCEPTED", path)
    except CheckpointError as error:
        message = str(error)
        print("REFUSED" if message.startswith(path) and len(message) < 1000 else "UNCLEAR " + message, path)
print("MEGABYTES", (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - base) // 1024)
"""


def some_arrays() -> dict[str, np.ndarray]:
    """One array of every dtype the library's NumPy side knows, and unusual shapes."""
    rng = np.random.default_rng(0)
    arrays = {}
    for name, dtype in DTYPES.items():
        if name.startswith("F8"):
            continue
        arrays[f"of.{name}"] = rng.integers(0, 2, [3, 5, 2]).astype(dtype)
    arrays["scalar"] = np.array(1.5, np.float32)
    arrays["empty"] = np.zeros([0, 4], np.float16)
    arrays['größe/漢字 "quoted"'] = rng.normal(size=[7]).astype(np.float64)
    return arrays


def same(one: np.ndarray, other: np.ndarray):
    assert one.dtype == other.dtype
    assert one.shape == other.shape
    assert one.tobytes() == other.tobytes()


@pytest.fixture
def good(tmp_path):
    path = tmp_path / "good.safetensors"
    path.write_bytes(assemble(*layout()))
    return path


def test_reads_what_the_library_wrote(tmp_path):
    arrays = some_arrays()
    safetensors.numpy.save_file(arrays, tmp_path / "a.safetensors", metadata={"format": "pt", "ß": "ü"})
    with WeightsFile(tmp_path / "a.safetensors") as file:
        assert file.metadata == {"format": "pt", "ß": "ü"}
        assert file.tensors.keys() == arrays.keys()
        for name, array in arrays.items():
            same(file.read(name), array)


def test_the_library_reads_what_we_write(tmp_path):
    arrays = some_arrays()
    write_arrays(tmp_path / "a.safetensors", arrays, {"format": "pt"})
    found = safetensors.numpy.load_file(tmp_path / "a.safetensors")
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        same(found[name], array)
    with safetensors.safe_open(tmp_path / "a.safetensors", "np") as file:
        assert file.metadata() == {"format": "pt"}


def test_our_file_is_the_librarys_file_to_the_byte(tmp_path):
    arrays = some_arrays()
    write_arrays(tmp_path / "ours", arrays)
    safetensors.numpy.save_file(arrays, tmp_path / "theirs")
    assert (tmp_path / "ours").read_bytes() == (tmp_path / "theirs").read_bytes()


def test_eight_bit_floats(tmp_path):
    arrays = {
        "a": np.arange(4).astype(ml_dtypes.float8_e4m3fn),
        "b": np.arange(4).astype(ml_dtypes.float8_e5m2),
    }
    write_arrays(tmp_path / "a", arrays)
    with WeightsFile(tmp_path / "a") as file:
        for name, array in arrays.items():
            same(file.read(name), array)


@pytest.mark.parametrize("dtype", [np.uint8, ml_dtypes.bfloat16, np.float32])
def test_slices_equal_numpys(tmp_path, dtype):
    rng = np.random.default_rng(1)
    shapes = {"matrix": [700, 1100], "wide": [3, 700_000], "cube": [6, 50, 40], "vector": [1000]}
    arrays = {name: rng.integers(0, 100, shape).astype(dtype) for name, shape in shapes.items()}
    write_arrays(tmp_path / "a", arrays)
    with WeightsFile(tmp_path / "a") as file:
        for name, array in arrays.items():
            for _ in range(12):
                index = []
                for side in array.shape:
                    start, stop = sorted(rng.integers(0, side + 1, 2))
                    index.append(slice(None) if rng.random() < 0.3 else slice(int(start), int(stop)))
                same(file.read(name, index), np.ascontiguousarray(array[tuple(index)]))


def test_a_slice_reads_only_its_bytes(tmp_path, monkeypatch):
    array = np.arange(4096 * 2048, dtype=np.float32).reshape(4096, 2048)
    write_arrays(tmp_path / "a", {"a": array})
    with WeightsFile(tmp_path / "a") as file:
        count = 0
        real = os.preadv

        def counting(descriptor, buffers, offset):
            nonlocal count
            count += sum(len(buffer) for buffer in buffers)
            return real(descriptor, buffers, offset)

        monkeypatch.setattr(os, "preadv", counting)
        rows = file.read("a", [slice(1024, 2048), slice(None)])
        assert count == rows.nbytes == array.nbytes // 4
        count = 0
        columns = file.read("a", [slice(None), slice(512, 1024)])
        assert count == columns.nbytes == array.nbytes // 4
        same(columns, np.ascontiguousarray(array[:, 512:1024]))


def test_reading_into_a_buffer(good):
    with WeightsFile(good) as file:
        out = np.zeros([2, 2, 3], np.float32)
        assert file.read("first", out=out[1]).base is out
        assert out.tolist() == [np.zeros([2, 3]).tolist(), GOOD["first"].tolist()]
        for wrong in (np.zeros([2, 3]), np.zeros([3, 2], np.float32), np.zeros([3, 2], np.float32).T):
            with pytest.raises(ValueError, match="first"):
                file.read("first", out=wrong)


def test_the_good_file_is_good(good):
    with WeightsFile(good) as file:
        for name, array in GOOD.items():
            same(file.read(name), array)
    assert safetensors.numpy.load_file(good).keys() == GOOD.keys()


def test_hostile_files_are_refused_cheaply(tmp_path):
    """Every mutant gives exactly one CheckpointError with its file name, and none costs memory."""
    paths = []
    for number, (name, raw) in enumerate(mutants()):
        path = tmp_path / f"{number:03}-{''.join(c if c.isalnum() else '_' for c in name)[:60]}.safetensors"
        path.write_bytes(raw)
        paths.append(str(path))
    assert len(paths) >= 100
    (tmp_path / "list").write_text("\n".join(paths))
    command = [sys.executable, "-W", "error", "-c", CHILD, str(tmp_path / "list")]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=REPOSITORY)
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    lines = result.stdout.splitlines()
    assert lines[:-1] == [f"REFUSED {path}" for path in paths]
    assert int(lines[-1].split()[1]) < 64


def test_we_accept_nothing_that_the_library_refuses(tmp_path):
    """Random single-byte damage: whatever we accept, the library reads alike."""
    raw = assemble(*layout())
    rng = np.random.default_rng(2)
    path = tmp_path / "a.safetensors"
    accepted = 0
    for _ in range(600):
        damaged = bytearray(raw)
        damaged[rng.integers(len(raw) - 69)] = rng.integers(256)  # anywhere in length and header
        path.write_bytes(damaged)
        try:
            with Weights(path) as weights:
                found = {name: weights.read(name) for name in weights.tensors}
        except CheckpointError as error:
            assert str(path) in str(error)
            continue
        accepted += 1
        theirs = safetensors.numpy.load_file(path)
        assert found.keys() == theirs.keys()
        for name, array in found.items():
            same(array, theirs[name])
    assert 0 < accepted < 600


def test_wrong_kinds_of_paths(tmp_path, good):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(good)
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    Weights(tmp_path / "link").close()
    for path, why in {
        str(tmp_path): "folder",
        str(tmp_path / "absent.safetensors"): "No such file",
        str(tmp_path / "dangling"): "No such file",
        str(tmp_path / "pipe"): "regular file",
        str(good) + "/inside": "Not a directory",
        "nul\0l": "null byte",
        "gs://bucket/ema.safetensors": "local",
    }.items():
        with pytest.raises(CheckpointError, match=why) as caught:
            Weights(path)
        assert path in str(caught.value)


def test_a_git_lfs_pointer_is_called_by_its_name(tmp_path):
    path = tmp_path / "ema.safetensors"
    path.write_bytes(dict(mutants())["git-lfs pointer"])
    with pytest.raises(CheckpointError, match="Git LFS"):
        Weights(path)


def test_a_file_that_shrinks_while_open(good):
    with WeightsFile(good) as file:
        os.truncate(good, good.stat().st_size - 10)
        same(file.read("first"), GOOD["first"])
        with pytest.raises(CheckpointError, match="shorter"):
            file.read("second")


def test_booleans_other_than_0_and_1(tmp_path):
    raw = assemble({"flags": {"dtype": "BOOL", "shape": [3], "data_offsets": [0, 3]}}, b"\x00\x01\x02")
    (tmp_path / "a").write_bytes(raw)
    with WeightsFile(tmp_path / "a") as file, pytest.raises(CheckpointError, match="flags"):
        file.read("flags")


# Shards


@pytest.fixture
def shards(tmp_path):
    """A folder with two shards and their index; returns (index path, arrays)."""
    arrays = {f"layer.{i}": np.full([4, 3], i, np.float32) for i in range(6)}
    places = {}
    for part in range(2):
        name = f"model-0000{part + 1}-of-00002.safetensors"
        own = {key: array for i, (key, array) in enumerate(arrays.items()) if i % 2 == part}
        write_arrays(tmp_path / name, own)
        places |= dict.fromkeys(own, name)
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 288}, "weight_map": places}))
    return index, arrays


def test_shards(shards):
    index, arrays = shards
    with Weights(index) as weights:
        assert weights.tensors.keys() == arrays.keys()
        for name, array in arrays.items():
            same(weights.read(name), array)
            same(weights.read(name, [slice(1, 3), slice(0, 2)]), np.ascontiguousarray(array[1:3, :2]))


@pytest.mark.parametrize(
    "change, why",
    [
        (lambda m: m.update({"layer.0": "model-00003-of-00003.safetensors"}), "missing"),
        (lambda m: m.update({"layer.9": "model-00001-of-00002.safetensors"}), "disagree"),
        (lambda m: m.pop("layer.3"), "disagree"),
        (lambda m: m.update({"layer.0": "model-00002-of-00002.safetensors"}), "disagree"),
        (lambda m: m.update({"layer.0": "../secret.safetensors"}), "not a file name"),
        (lambda m: m.update({"layer.0": "/etc/passwd"}), "not a file name"),
        (lambda m: m.update({"layer.0": ".."}), "not a file name"),
        (lambda m: m.update({"layer.0": "a\0b"}), "not a file name"),
        (lambda m: m.update({"layer.0": 3}), "weight_map"),
    ],
)
def test_wrong_indexes(shards, change, why):
    index, _ = shards
    content = json.loads(index.read_text())
    change(content["weight_map"])
    index.write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match=why) as caught:
        Weights(index)
    assert str(index) in str(caught.value)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"weight_map": []}', '{"weight_map": {"a": NaN}}', "{" * 50_000])
def test_indexes_that_are_no_indexes(shards, text):
    index, _ = shards
    index.write_text(text)
    with pytest.raises(CheckpointError, match="index.json"):
        Weights(index)


def test_descriptors_are_closed(shards, tmp_path):
    index, _ = shards
    (tmp_path / "model-00002-of-00002.safetensors").write_bytes(b"damaged")
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        with pytest.raises(CheckpointError):
            Weights(index)
    assert len(os.listdir("/proc/self/fd")) == before


# Writer


def test_order_of_writing_is_free_and_arrays_may_be_strided(tmp_path):
    array = np.arange(3 * 5 * 7, dtype=np.float32).reshape(3, 5, 7)
    sent = {"a": array.transpose(2, 0, 1), "b": array[::2, :, ::-1], "c": array.T.astype(ml_dtypes.bfloat16)}
    with Writer(tmp_path / "a", {name: (value.dtype, value.shape) for name, value in sent.items()}) as writer:
        for name in ("b", "c", "a"):
            writer.write(name, sent[name])
    with WeightsFile(tmp_path / "a") as file:
        for name, value in sent.items():
            same(file.read(name), np.ascontiguousarray(value))


def test_strided_arrays_are_written_in_pieces(tmp_path, monkeypatch):
    monkeypatch.setattr(writer_module, "_PIECE", 100)
    array = np.arange(40 * 9, dtype=np.int16).reshape(9, 40).T
    write_arrays(tmp_path / "a", {"a": array})
    with WeightsFile(tmp_path / "a") as file:
        same(file.read("a"), np.ascontiguousarray(array))


def test_nothing_half_written_keeps_the_name(tmp_path):
    path = tmp_path / "a.safetensors"
    path.write_bytes(b"the old file")
    with pytest.raises(RuntimeError, match="stop"), Writer(path, {"a": (np.float32, [2])}) as writer:
        raise RuntimeError("stop")
    with pytest.raises(ValueError, match="not written"), Writer(path, {"a": (np.float32, [2])}):
        pass
    with pytest.raises(ValueError, match="announced"), Writer(path, {"a": (np.float32, [2])}) as writer:
        writer.write("a", np.zeros([3], np.float32))
    with pytest.raises(ValueError, match="before"), Writer(path, {"a": (np.float32, [2])}) as writer:
        writer.write("a", np.zeros([2], np.float32))
        writer.write("a", np.zeros([2], np.float32))
    assert path.read_bytes() == b"the old file"
    assert os.listdir(tmp_path) == ["a.safetensors"]


def test_full_disk_is_noticed_before_writing(tmp_path):
    with pytest.raises(CheckpointError, match=r"needs 35184\d* ?.* GB.*Free some space"):
        Writer(tmp_path / "a", {"a": (np.uint8, [2**45])})
    assert os.listdir(tmp_path) == []


def test_full_disk_while_writing(tmp_path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))  # files cannot grow beyond this
    try:
        with pytest.raises(CheckpointError, match="Free some space"):
            write_arrays(tmp_path / "a", {"a": np.zeros(200_000, np.uint8)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert os.listdir(tmp_path) == []


def test_places_that_cannot_be_written(tmp_path):
    with pytest.raises(CheckpointError, match="absent"):
        Writer(tmp_path / "absent" / "a", {"a": (np.uint8, [1])})
    with pytest.raises(CheckpointError, match="complex64"):
        Writer(tmp_path / "a", {"a": (np.complex64, [1])})


def test_importing_costs_no_jax():
    code = "import sys, sgt_jax.checkpoints.safetensors, sgt_jax.checkpoints.writer; assert 'jax' not in sys.modules"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        subprocess.run([sys.executable, "-c", code], check=True, cwd=REPOSITORY)
