"""What a run of a study knew at each step at which it was scored: for curves of scores over training."""

from typing import Any

from etils import epath

from sgt_jax.evaluation.items import evaluated_steps, load_items
from sgt_jax.study import run as study_lib


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
            items[evaluator] = {name: study_lib.pack(found[name]) for e, name in sorted(used) if e == evaluator}
        entries.append(
            {
                "step": step,
                "samples": study_lib.realised(folder, step),
                "answer_tokens": round(data.rows * data.budgets["labels"] * _steps_of_labels(folder, step)),
                "slots": per_step * step,
                "items": items,
            }
        )
    return entries


def _steps_of_labels(folder: epath.Path, upto: int) -> float:
    """Steps up to one, each counted by how full its labels were."""
    from sgt_jax.training.log import read_metrics

    total, last = 0.0, 0
    for line in read_metrics(folder, kind="train"):
        if line["step"] > upto:
            break
        total += line.get("fill/labels", 0.0) * (line["step"] - last)
        last = line["step"]
    return total
