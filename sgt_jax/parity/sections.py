"""What `parity` compares, section by section."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping

from flax.errors import FlaxError

from sgt_jax.parity.bagel import data, inference
from sgt_jax.parity.bagel.folder import Folder
from sgt_jax.parity.bagel.positions import positions
from sgt_jax.parity.bagel.training import alt_shift, freeze_und, inputs, optimizer_steps, train
from sgt_jax.parity.checks import Check

# Section -> (the files that it needs, its function).
Section = tuple[tuple[str, ...], Callable[[Folder], Iterator[Check]]]


SECTIONS: Mapping[str, Section] = {
    "inputs": (("train_inputs.npz",), inputs),
    "train": (("train_inputs.npz", "train_expected.npz"), train),
    "alt_shift": (("train_inputs.npz", "train_expected.npz"), alt_shift),
    "freeze_und": (("train_inputs.npz", "freeze_und_gradnorms.npz"), freeze_und),
    "optimizer": (("train_inputs.npz", "optimizer.npz", "optimizer.json"), optimizer_steps),
    "positions": (("positions_and_time.npz",), positions),
    **data.SECTIONS,
    **inference.SECTIONS,
}


ABSENT = "file absent"


# What a file that lacks arrays or keys, or holds others, can lead to.
_DAMAGED = (FlaxError, OSError, KeyError, IndexError, ValueError, TypeError, RuntimeError, ZeroDivisionError)


def run(folder: Folder, sections: Iterable[str] = tuple(SECTIONS)) -> list[Check]:
    """All checks of some sections; a section whose files are absent gives one check that is neither right nor wrong."""
    checks: list[Check] = []
    for section in sections:
        needs, function = SECTIONS[section]
        absent = [name for name in needs if not folder.has(name)]
        if absent:
            checks.append(Check(section, ", ".join(absent), 0.0, 0.0, None, ABSENT))
            continue
        try:
            # One by one: what was compared before a file turns out to be damaged still counts.
            checks.extend(function(folder))
        except _DAMAGED as error:
            if os.environ.get("SGT_TRACEBACK"):
                raise
            why = f"stopped by {type(error).__name__}: {' '.join(str(error).split())[:200]} (see SGT_TRACEBACK=1)"
            checks.append(Check(section, "(the rest)", float("inf"), 0.0, False, why))
    return checks
