"""Parity section "tables": schedules, solvers, time shifts and resize rules at the sizes of the release."""

import functools
import re
import types
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sgt_jax.data.layouts.omnigen2.pictures import qwen_size
from sgt_jax.data.pictures.resizing import ResizeRule
from sgt_jax.models.layers import time_features
from sgt_jax.models.omnigen2.guidance import advance, start, time_grid
from sgt_jax.models.omnigen2.model import shifted_time, training_shift
from sgt_jax.parity.checks import Check
from sgt_jax.parity.omnigen2.folder import Folder
from sgt_jax.training import optimizer

FILE = "tables.npz"
_EULER = re.compile(r"euler\.(?:(\d+)x(\d+)|noshift)\.(\d+)$")
_SHIFT = re.compile(r"shift\.(mu|v1|v2)\.(\d+)x(\d+)$")
_DPM = re.compile(r"dpm\.trajectory\.(\d+)$")
# The tables are those of the release: pixels per latent cell and per token, latent cells of dpm, factor of Qwen's rule.
_CELL, _TOKEN, _DPM_CELLS, _QWEN, _SIDES = 8, 16, 6144, 28, 16
_UNSHIFTED = 40**2  # latent cells of a picture that asks for no shift
_RATES = types.SimpleNamespace(
    total_steps=5000,
    optimizer=types.SimpleNamespace(learning_rate=5e-6),
    schedule=types.SimpleNamespace(name="constant", warmup_steps=300, delay_steps=1),
)


def tables(folder: Folder) -> Iterator[Check]:
    """Everything in tables.npz that is a rule of ours, too."""
    recorded = folder.arrays(FILE)
    check = functools.partial(folder.check, "tables", FILE)
    for array in recorded:
        if match := _EULER.match(array):
            height, width, steps = match.groups()
            cells = int(height) * int(width) // _CELL**2 if height else _UNSHIFTED
            yield check(array, time_grid(int(steps), cells))
        elif match := _SHIFT.match(array):
            yield check(array, _shifted(match[1], int(match[2]), int(match[3]), recorded["shift.t_raw"]))
        elif match := _DPM.match(array):
            yield from _dpm(check, int(match[1]), recorded)
        elif array.startswith("sampler."):
            yield Check("tables", array, 0.0, 0.0, None, "not applicable: our mixture is exact over its own stream")
    yield check("shift.t_raw", jax.nn.sigmoid(recorded["shift.u"]))
    yield check("temb.proj", time_features(jnp.asarray(recorded["temb.t"]), 256, 1000.0))
    rate = optimizer.schedule(_RATES)
    yield check("lr.used_at_optimizer_step", jax.vmap(rate)(jnp.arange(len(recorded["lr.used_at_optimizer_step"]))))
    rows = recorded["resize.rule"]
    sizes = [ResizeRule(_SIDES, _SIDES, side, pixels, rule="floor").size(w, h)[::-1] for h, w, pixels, side, *_ in rows]
    yield check("resize.rule", np.concatenate([rows[:, :4], np.asarray(sizes)], axis=1))
    rows = recorded["qwen.smart_resize"]
    sizes = [qwen_size(h, w, _QWEN, low, high) for h, w, low, high, *_ in rows.tolist()]
    yield check("qwen.smart_resize", np.concatenate([rows[:, :4], np.asarray(sizes)], axis=1))


def _shifted(kind: str, height: int, width: int, raw: np.ndarray) -> Any:
    tokens = (height // _TOKEN) * (width // _TOKEN)
    if kind == "mu":
        return jnp.log(training_shift(jnp.asarray([tokens], jnp.float32)))
    # Version 2 is the rule of inference, in tokens.
    shift = training_shift(jnp.float32(tokens)) if kind == "v1" else np.float32(np.sqrt(tokens) / 20)
    return shifted_time(raw, shift)


def _dpm(check: Any, steps: int, recorded: Mapping[str, np.ndarray]) -> Iterator[Check]:
    """The solver on the synthetic field v = tanh(target - x) * (1 + t)."""
    times = time_grid(steps, _DPM_CELLS)
    yield check(f"dpm.timesteps.{steps}", times[:-1])
    yield check(f"dpm.sigmas.{steps}", 1 - times)
    target = recorded["dpm.target"]

    @jax.jit
    def walk(x: Any) -> Any:
        def one(state: Any, pair: Any) -> Any:
            state = advance("dpm", state, jnp.tanh(target - state.x) * (1 + pair[0]), pair[0], pair[1])
            return state, state.x

        return jax.lax.scan(one, start(x), (times[:-1], times[1:]))[1]

    yield check(f"dpm.trajectory.{steps}", walk(recorded[f"dpm.init.{steps}"]))
