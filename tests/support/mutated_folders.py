"""Damaged copies of a family's published folder: one fault each, made from what the folder holds. No JAX."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tests.support import paths
from tests.support.golden_checkpoint import edit


class Published(NamedTuple):
    """A sound folder.

    Attributes:
      folder: where it is.
      weights: {file of weights: a tensor in it}.
      configs: {JSON file: keys that it must have}.
    """

    folder: Path
    weights: dict[str, str]
    configs: dict[str, tuple[str, ...]]


PUBLISHED = {
    "bagel": Published(
        paths.GOLDEN / "bagel" / "ckpt",
        {"ema.safetensors": "connector.fc1.weight", "ae.safetensors": "decoder.conv_in.weight"},
        {
            "llm_config.json": ("hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size"),
            "vit_config.json": ("hidden_size", "patch_size", "image_size"),
        },
    ),
    "omnigen2": Published(
        paths.GOLDEN / "omnigen2",
        {
            "transformer/diffusion_pytorch_model.safetensors": "x_embedder.weight",
            "mllm/model.safetensors": "visual.merger.mlp.0.weight",
            "vae/diffusion_pytorch_model.safetensors": "decoder.conv_in.weight",
        },
        {
            "transformer/config.json": ("hidden_size", "num_layers", "num_attention_heads"),
            "vae/config.json": ("block_out_channels", "latent_channels"),
        },
    ),
}


class Mutation(NamedTuple):
    """One fault.

    Attributes:
      name: what is wrong.
      damage: applies it to a copy of the folder.
      said: one of these must stand in the error.
    """

    name: str
    damage: Callable[[Path], None]
    said: tuple[str, ...]


def mutations(family: str) -> Iterator[Mutation]:
    """All faults of a family's folder."""
    published = PUBLISHED[family]
    for file, tensor in published.weights.items():
        yield from _of_weights(file, tensor)
    for file, keys in published.configs.items():
        yield from _of_config(file, keys)


def copied(family: str, target: Path) -> Path:
    """A writable copy of the family's folder, without recorded arrays."""
    published = PUBLISHED[family]
    for path in sorted(published.folder.rglob("*")):
        inside = path.relative_to(published.folder)
        if path.is_file() and path.suffix in (".json", ".safetensors"):
            (target / inside).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target / inside)
    return target


def _of_weights(file: str, tensor: str) -> Iterator[Mutation]:
    def bytes_kept(count: int) -> Callable[[Path], None]:
        return lambda folder: os.truncate(folder / file, count if count >= 0 else (folder / file).stat().st_size + count)

    def start(head: bytes) -> Callable[[Path], None]:
        def write(folder: Path) -> None:
            with (folder / file).open("r+b") as opened:
                opened.write(head)

        return write

    def tensors(change: Callable) -> Callable[[Path], None]:
        return lambda folder: edit(folder / file, change)

    name = Path(file).name
    for count, what in ((0, "empty"), (5, "cut in its length"), (100, "cut in its header"), (-1, "without its last byte")):
        yield Mutation(f"{file} {what}", bytes_kept(count), (name,))
    yield Mutation(f"{file} absent", lambda folder: (folder / file).unlink(), (name,))
    yield Mutation(f"{file} a folder", lambda folder: ((folder / file).unlink(), (folder / file).mkdir()), (name,))
    yield Mutation(f"{file} announces a header of 2^63 bytes", start(b"\xff" * 7 + b"\x7f"), (name,))
    yield Mutation(f"{file} is a pickle", start(b"\x80\x04\x95" + b"\x00" * 5), (name,))
    yield Mutation(f"{file} lacks {tensor}", tensors(lambda t: t.pop(tensor)), (tensor,))
    yield Mutation(f"{file} has a tensor more", tensors(lambda t: t.update(surplus=np.zeros(3, "f4"))), ("surplus",))
    yield Mutation(
        f"{file} has {tensor} renamed", tensors(lambda t: t.update({tensor + "s": t.pop(tensor)})), (tensor + "s",)
    )
    yield Mutation(f"{file} has {tensor} too short", tensors(lambda t: t.update({tensor: t[tensor][:-1]})), (tensor,))
    yield Mutation(
        f"{file} has {tensor} as integers",
        tensors(lambda t: t.update({tensor: np.zeros(t[tensor].shape, np.int32)})), (tensor,),
    )  # fmt: skip


def _of_config(file: str, keys: tuple[str, ...]) -> Iterator[Mutation]:
    def text(content: str) -> Callable[[Path], None]:
        return lambda folder: (folder / file).write_text(content)

    def values(key: str, value: object) -> Callable[[Path], None]:
        def change(content: dict) -> None:
            del content[key]
            if value is not None:
                content[key] = value

        return lambda folder: edit(folder / file, change)

    name = Path(file).name
    yield Mutation(f"{file} absent", lambda folder: (folder / file).unlink(), (name,))
    for content in ("", "{", "[]", "{}", '"text"', json.dumps({"a": 1}) * 2):
        yield Mutation(f"{file} = {content}", text(content), (name,))
    for key in keys:
        yield Mutation(f"{file} lacks {key}", values(key, None), (key,))
        for value in ("many", -3, [], True):
            yield Mutation(f"{file} has {key} {value!r}", values(key, value), (key, name, "misshaped", "missing"))
