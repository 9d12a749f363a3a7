"""The sections of a folder of numbers recorded from BAGEL's reference; tests/golden/bagel/README.md describes the folder."""

import os
from collections.abc import Callable, Iterator, Mapping

from sgt_jax.parity.bagel import data, inference
from sgt_jax.parity.bagel.folder import Folder
from sgt_jax.parity.bagel.positions import positions
from sgt_jax.parity.bagel.training import alt_shift, freeze_und, inputs, optimizer_steps, train
from sgt_jax.parity.checks import Check

SECTIONS: Mapping[str, tuple[tuple[str, ...], Callable[[Folder], Iterator[Check]]]] = {
    "inputs": (("train_inputs.npz",), inputs),
    "train": (("train_inputs.npz", "train_expected.npz"), train),
    "alt_shift": (("train_inputs.npz", "train_expected.npz"), alt_shift),
    "freeze_und": (("train_inputs.npz", "freeze_und_gradnorms.npz"), freeze_und),
    "optimizer": (("train_inputs.npz", "optimizer.npz", "optimizer.json"), optimizer_steps),
    "positions": (("positions_and_time.npz",), positions),
    **data.SECTIONS,
    **inference.SECTIONS,
}
open_folder = Folder


def recognises(folder: str | os.PathLike) -> bool:
    """Whether a folder was recorded from this family: it holds a BAGEL checkpoint."""
    return os.path.isdir(os.path.join(folder, "ckpt"))
