"""Ranks changes of a config that leave the mathematics as it is, before anything is compiled."""

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

from sgt_jax.errors import ConfigError
from sgt_jax.parallel.hardware import Chip
from sgt_jax.planning import estimate

TENSOR = CONTEXT = ACCUMULATE = (1, 2, 4)
TRANSPOSE = (1, 2, 4, 8)  # the first that divides the model
REMAT = ("dots", "full", "full_offload")


class Candidate(NamedTuple):
    """Overrides of a config, its remat policy, and the peak in bytes that the rule of thumb gives it."""

    changes: list[str]
    remat: str
    guess: float


def ranked(analyse: Callable[[list[str]], dict[str, Any]], chip: Chip, chips: int) -> list[Candidate]:
    """Candidates, the most promising first: what should fit, then what the roofline says is fastest.

    What is left of the chips is `fsdp`, and `fsdp_transpose` if that alone does not divide a width. Weights travel while
    products run; activations that tensor and context exchange are waited for. Where products hide the rest, the candidate
    that moves and sends less is before. That offloaded layer inputs travel to the host is not counted; "full_offload" stands
    behind "full" for it.

    Args:
      analyse: overrides -> facts, as `planning.analyse` gives them; ValueError if the mesh divides something badly.
    """
    found = []
    for tensor, context, remat, accumulate in itertools.product(TENSOR, CONTEXT, REMAT, ACCUMULATE):
        for transpose in TRANSPOSE:
            fsdp, left = divmod(chips, tensor * context * transpose)
            if left:
                continue
            second = dict(fsdp_transpose=transpose) if transpose > 1 else {}
            mesh = dict(data=1, fsdp=fsdp, **second, tensor=tensor, context=context)
            changes = [f"mesh={mesh}", f"model.remat={remat}", f"accumulate={accumulate}"]
            try:
                facts = analyse(changes)
                break
            except ConfigError:
                continue  # this mesh does not divide the model or the rows
        else:
            continue
        sent = facts["sent"]
        line = estimate.roofline(chip, facts["executed"], facts["needed"], facts["moved"], sent["weights"])
        waited = sent["activations"] / chip.link
        order = (facts["guess"] > chip.memory, line["overlapped"] + waited, line["serial"])
        found.append((order, Candidate(changes, remat, facts["guess"])))
    return [candidate for _, candidate in sorted(found, key=lambda one: one[0])]
