"""Recorded position tables and time features of BAGEL."""

import re
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sgt_jax.data.layouts.bagel import table_positions
from sgt_jax.models.layers import shift_time, sincos_table, time_features
from sgt_jax.parity.bagel.folder import Folder
from sgt_jax.parity.checks import Check, compare


def positions(folder: Folder) -> Iterator[Check]:
    """Table positions, the fixed tables, time features, time shift and sampler grids."""
    recorded = folder.arrays("positions_and_time.npz")

    def check(array: str, got: Any, kind: str = "value") -> Check:
        return compare("positions", array, got, recorded[array], kind)

    for array in recorded:
        name, _, rule = array.partition("/")
        if rule in ("extrapolate", "interpolate"):
            height, width, patch, side = recorded[f"{name}/hw_patch_max"]
            got = table_positions(height // patch, width // patch, side, rule == "interpolate")
            if rule == "extrapolate":
                yield check(array, got, "exact")
            else:
                yield _interpolated(array, got, recorded[array], (height // patch, width // patch), side)
        elif match := re.fullmatch(r"train_shift_([\d.]+)", array):
            raw = jnp.asarray(recorded["train_shift_input"], jnp.float32)
            yield check(array, shift_time(jax.nn.sigmoid(raw), float(match[1])))
        elif match := re.fullmatch(r"schedule_n(\d+)_shift([\d.]+)", array):
            yield check(array, shift_time(np.linspace(1.0, 0.0, int(match[1])), float(match[2])))
        elif match := re.fullmatch(r"sincos_dim(\d+)_grid(\d+)", array):
            yield check(array, sincos_table(int(match[2]), int(match[1])))
        elif match := re.fullmatch(r"time_sinusoid_(\d+)", array):
            yield check(array, time_features(jnp.asarray(recorded["time_sinusoid_t"], jnp.float32), int(match[1])))


def _interpolated(array: str, got: np.ndarray, expected: np.ndarray, grid: tuple[int, int], side: int) -> Check:
    """The interpolated rule, floor(i * side / n). Ours is exact; the reference rounds in float32.

    So it is one too low at a few places where i * side / n is a whole number (n=49, side=70: at i=14). Nothing else
    may differ.
    """
    if got.shape != expected.shape:
        return Check("positions", array, float("inf"), 0.0, False, f"shape {got.shape} instead of {expected.shape}")
    index = np.indices(grid).reshape(2, -1)
    whole = np.stack([i * side % n == 0 for i, n in zip(index, grid)])
    off = np.stack(np.divmod(got, side)) - np.stack(np.divmod(expected, side))
    ok = bool(((off == 0) | ((off == 1) & whole)).all())
    differ = np.count_nonzero(off)
    note = f"{differ} indices differ by the reference's float32 rounding" if ok and differ else ""
    return Check("positions", array, float(np.abs(off).max(initial=0)), 1.0 if differ else 0.0, ok, note)
