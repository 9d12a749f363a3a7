"""What a run of a study had seen, and how it scored, at each step at which it was scored: for curves over training."""

from typing import Any

from etils import epath
from ml_collections import ConfigDict

from sgt_jax.evaluation.items import evaluated_steps, load_items
from sgt_jax.reporting.metrics import label_steps, realised_samples
from sgt_jax.study import records


def history(study: ConfigDict, config: ConfigDict, folder: epath.Path) -> list[dict[str, Any]]:
    """One entry a scored step, in order.

    Args:
      study: the scores of its config say which items are needed.
      config, folder: of the run, and its work directory.

    Returns:
      [{"step", "samples": {component: seen so far}, "answer_tokens": supervised tokens so far, "slots": decoder slots
      computed so far, padding included, "items": {evaluator: {item: packed results}}}]; only the items that the study's
      scores use.
    """
    used = sorted({(score.evaluator, score.item) for score in study.scores.values()})
    data = config.data
    slots_a_step = data.rows * (data.budgets["und"] + data.budgets["gen"])
    entries = []
    for step in evaluated_steps(folder):
        scored: dict[str, dict[str, Any]] = {}
        for evaluator in config.evaluators:
            items = load_items(folder, step, evaluator)
            scored[evaluator] = {item: records.pack(items[item]) for e, item in used if e == evaluator}
        entries.append(
            {
                "step": step,
                "samples": realised_samples(folder, step),
                "answer_tokens": round(data.rows * data.budgets["labels"] * label_steps(folder, step)),
                "slots": slots_a_step * step,
                "items": scored,
            }
        )
    return entries
