"""What a run of a study knew at each step at which it was scored: for curves of scores over training."""

from typing import Any

from etils import epath

from sgt_jax.evaluation.items import evaluated_steps, load_items
from sgt_jax.reporting import metrics
from sgt_jax.reporting.metrics import steps_of_labels
from sgt_jax.study import records


def history(study: Any, config: Any, folder: epath.Path) -> list[dict[str, Any]]:
    """One entry a scored step, in order.

    Returns:
      [{"step", "samples": {component: seen so far}, "answer_tokens": supervised tokens so far, "slots": decoder slots
      computed so far, padding included, "items": {evaluator: {item: packed results}}}]; only the items that the study's
      scores use.
    """
    used = {(score.evaluator, score.item) for score in study.scores.values()}
    data = config.data
    per_step = data.rows * (data.budgets["und"] + data.budgets["gen"])
    entries = []
    for step in evaluated_steps(folder):
        items: dict[str, dict[str, Any]] = {}
        for evaluator in config.evaluators:
            found = load_items(folder, step, evaluator)
            items[evaluator] = {name: records.pack(found[name]) for e, name in sorted(used) if e == evaluator}
        entries.append(
            {
                "step": step,
                "samples": metrics.realised(folder, step),
                "answer_tokens": round(data.rows * data.budgets["labels"] * steps_of_labels(folder, step)),
                "slots": per_step * step,
                "items": items,
            }
        )
    return entries
