"""Model FLOP utilisation of a run, on devices whose peak is known; on others nothing is claimed.

Counts what the model needs for the real slots of the rows, forward and backward, by the formula that `plan` uses: no
recomputation, no padding, no autoencoder. Attention is that of a typical pack, as full as the lane is.
"""

from collections.abc import Mapping
from typing import Any

import jax

from sgt_jax.models.attention.work import attention_work
from sgt_jax.models.bagel import costs
from sgt_jax.models.bagel.costs import typical_row
from sgt_jax.parallel import hardware


class Utilisation:
    """Knows a run's sizes and devices; `scalars` turns fill and time into {"mfu": share of the peak}."""

    def __init__(self, config: Any, model: Any, device_kind: str, devices: int) -> None:
        chip = hardware.chip_of(device_kind)
        # Other objectives (the autoencoder alone) have no formula.
        self._peak = chip.flops * devices if chip and config.objective.name == "sgt" else 0.0
        if not self._peak:
            return
        self._model, self._freeze, self._rows = model, tuple(config.freeze), config.data.rows
        self._budgets = dict(config.data.budgets)
        infos = zip(("decoder", "vit"), typical_row(self._budgets))
        self._pairs = {name: self._rows * attention_work(info, model.attention_block)[0] for name, info in infos}

    def scalars(self, fill: Mapping[str, float], seconds: float) -> dict[str, float]:
        """{"mfu"} of a step with these shares of real slots per lane, or {} where the peak is not known."""
        if not self._peak or not seconds:
            return {}
        slots = {
            lane: self._budgets[lane] * self._rows * fill.get(lane, 0.0) for lane in ("und", "gen", "vit", "labels")
        }
        full = self._rows * (self._budgets["und"] + self._budgets["gen"]), self._rows * self._budgets["vit"]
        filled = {"decoder": (slots["und"] + slots["gen"]) / max(full[0], 1), "vit": slots["vit"] / max(full[1], 1)}
        pairs = {name: self._pairs[name] * filled[name] for name in filled}
        needed = sum(costs.training_flops(self._model, slots, pairs, self._freeze).values())
        return {"mfu": needed / seconds / self._peak}


def of_run(config: Any, model: Any) -> Utilisation:
    """For the devices of this run."""
    return Utilisation(config, model, jax.devices()[0].device_kind, jax.device_count())
