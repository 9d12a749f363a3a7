"""Model FLOP utilisation of a run, on devices whose peak is known; on others nothing is claimed.

Counts what the model needs for the real slots of the rows, forward and backward, by the formula that `plan` uses: no
recomputation, no padding, no autoencoder. Attention is that of a typical pack, as full as the lane is.
"""

from collections.abc import Mapping

import jax

from sgt_jax.models.attention.work import attention_work
from sgt_jax.models.family import UnsupportedError
from sgt_jax.parallel import hardware
from sgt_jax.training import adapter
from sgt_jax.training.experiment import Blueprint


class Utilisation:
    """Knows a run's sizes and devices; `scalars` turns fill and time into {"mfu": share of the peak}."""

    def __init__(self, blueprint: Blueprint, device_kind: str, devices: int) -> None:
        config, chip = blueprint.config, hardware.chip_of(device_kind)
        self._peak = chip.flops * devices if chip and blueprint.objective.counted else 0.0
        if not self._peak:
            return
        self._costs, self._freeze = blueprint.family.costs(blueprint.model_config), adapter.freeze(config)
        self._rows, self._budgets = config.data.rows, dict(config.data.budgets)
        block = blueprint.model_config.attention_block
        typical = self._costs.typical_row(self._budgets)
        self._pairs = {name: self._rows * attention_work(info, block)[0] for name, info in typical.items()}

    def scalars(self, fill: Mapping[str, float], seconds: float) -> dict[str, float]:
        """{"mfu"} of a step with these shares of real slots per lane, or {} where the peak is not known."""
        if not self._peak or not seconds:
            return {}
        full = {lane: n * self._rows for lane, n in self._budgets.items()}
        slots = {lane: n * fill.get(lane, 0.0) for lane, n in full.items()}
        pairs = {}
        for name, lanes in self._costs.attention.items():
            room = sum(full.get(lane, 0) for lane in lanes)
            pairs[name] = self._pairs.get(name, 0.0) * sum(slots.get(lane, 0.0) for lane in lanes) / max(room, 1)
        needed = sum(self._costs.training_flops(slots, pairs, self._freeze).values())
        return {"mfu": needed / seconds / self._peak}


def of_run(blueprint: Blueprint) -> Utilisation:
    """For the devices of this run; it claims nothing where a family has no formulas."""
    try:
        return Utilisation(blueprint, jax.devices()[0].device_kind, jax.device_count())
    except UnsupportedError:
        return Utilisation(blueprint, "", 0)
