"""When a run is measured, and how its measurements become scores: before and after, paired item by item."""

import json
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from etils import epath

from sgt_jax.evaluation.evaluators.held_out_loss import Answers, Drawings, HeldOutLoss, Masks, Reconstructions, Result
from sgt_jax.evaluation.rules import pope
from sgt_jax.evaluation.scenes.evaluators import Edits, Hallucination, Prompts
from sgt_jax.evaluation.statistics import Score, compare
from sgt_jax.training.state import TrainState

FOLDER = "evaluations"
EVALUATORS = {
    "answers": Answers,
    "drawings": Drawings,
    "edits": Edits,
    "hallucination": Hallucination,
    "loss": HeldOutLoss,
    "masks": Masks,
    "prompts": Prompts,
    "reconstructions": Reconstructions,
}


class Schedule:
    """Runs the evaluators of a config and keeps what they found.

    Per-item results go to WORKDIR/evaluations/STEP_NAME.json, so that a resumed run still knows its step 0 and intervals
    can be computed later; means go to the log, pictures to WORKDIR/pictures.
    """

    def __init__(self, config: Any, experiment: Any, workdir: epath.Path, log: Any) -> None:
        self._config, self._experiment, self._workdir, self._log = config, experiment, workdir, log
        self._evaluators: dict[str, Any] = {}
        self.results: dict[str, Result] = {}
        self.seconds = 0.0

    def __call__(self, step: int, state: TrainState) -> None:
        """Evaluates the configured weights of a state."""
        started = time.time()
        # At step 0 raw and averaged weights are the same.
        params = state.weights(self._config.evaluate_weights if step else "params")
        values: dict[str, float] = {}
        for name, options in self._config.evaluators.to_dict().items():
            if name not in self._evaluators:
                kind = options["type"]
                if kind not in EVALUATORS:
                    raise ValueError(f"evaluator '{name}': unknown type '{kind}'; there are {', '.join(EVALUATORS)}")
                self._evaluators[name] = EVALUATORS[kind](self._experiment, options)
            result = self.results[name] = self._evaluators[name](params)
            values.update({f"{name}/{key}": value for key, value in result.scores()})
            if result.rows:
                self._log.pictures(step, name, result.rows, columns=result.columns, captions=result.captions)
            if jax.process_index() == 0:
                save_items(self._workdir, step, name, result)
        self.seconds += time.time() - started
        self._log.scalars(step, dict(values, evaluation_seconds=time.time() - started), kind="eval")


def save_items(workdir: epath.Path, step: int, name: str, result: Result) -> None:
    """Writes the per-item results of one evaluator at one step."""
    folder = workdir / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{step:07d}_{name}.json").write_text(json.dumps(result.items))


def load_items(workdir: epath.PathLike, step: int, name: str) -> dict[str, Any] | None:
    """What `save_items` wrote, or None."""
    path = epath.Path(workdir) / FOLDER / f"{step:07d}_{name}.json"
    return json.loads(path.read_text()) if path.exists() else None


def evaluated_steps(workdir: epath.PathLike) -> list[int]:
    """The steps at which a run was evaluated, in order."""
    folder = epath.Path(workdir) / FOLDER
    return sorted({int(p.name.split("_")[0]) for p in folder.iterdir()}) if folder.is_dir() else []


def collect_scores(workdir: epath.PathLike, evaluators: Mapping[str, Mapping[str, Any]]) -> list[Score]:
    """The scores of a finished run: its last evaluation against its first, item by item, with intervals."""
    steps = evaluated_steps(workdir)
    if not steps:
        return []
    scores: list[Score] = []
    for name, options in evaluators.items():
        after = load_items(workdir, steps[-1], name)
        before = load_items(workdir, steps[0], name) if len(steps) > 1 else None
        if after is not None:
            scores += _BY_TYPE[options["type"]](after, before)
    return scores


def _loss_scores(after: dict, before: dict | None) -> list[Score]:
    words = {"items": "held-out batches", "lower_is_better": True}
    labels = {"ce": "cross-entropy per answer token", "mse": "flow loss per latent token"}
    return [
        compare("loss", label, after[key], before=before and before[key], **words)
        for key, label in labels.items()
        if key in after
    ]


def _answer_scores(after: dict, before: dict | None) -> list[Score]:
    baseline = np.asarray(after["majority_accuracy"])
    words = {"baseline_name": "majority answer", "items": "held-out questions", "unit": "%"}
    scores = []
    kinds = np.asarray(after["kind"])
    for kind in ["", *sorted(set(after["kind"]))]:
        pick = kinds == kind if kind else np.ones(len(kinds), bool)
        previous = np.asarray(before["accuracy"])[pick] if before else None
        scores.append(
            compare("understanding", "answer accuracy", np.asarray(after["accuracy"])[pick], before=previous,
                    baseline=baseline[pick], kind=kind, **words)
        )  # fmt: skip
    return scores


def _mask_scores(after: dict, before: dict | None) -> list[Score]:
    words = {
        "baseline_name": "best constant mask",
        "ceiling_name": "true map through the autoencoder",
        "items": "held-out pictures",
        "unit": "%",
    }
    return [
        compare("segmentation", label, after[key], before=before and before[key], baseline=after[f"constant_{key}"],
                ceiling=after[f"ceiling_{key}"], **words)
        for key, label in (("miou", "mask mIoU"), ("pq", "panoptic quality (class-agnostic)"))
    ]  # fmt: skip


def _drawing_scores(after: dict, before: dict | None) -> list[Score]:
    scores = []
    for key, values in after.items():
        if key == "prompt":
            continue
        # A verdict is None where the caption does not ask for it (a relation between two objects when there is one).
        pick = [i for i, v in enumerate(values) if v is not None]
        if not pick:
            continue
        previous = [before[key][i] for i in pick] if before else None
        scores.append(compare("generation", key.replace("_", " "), [values[i] for i in pick], before=previous,
                              items="held-out captions", unit="%"))  # fmt: skip
    return scores


def _hallucination_scores(after: dict, before: dict | None) -> list[Score]:
    words = {"items": "questions", "unit": "%", "groups": after["picture"]}
    scores = [
        compare("hallucination", "POPE accuracy", after["accuracy"], before=before and before["accuracy"], **words)
    ]
    for category in pope.CATEGORIES:
        pick = [i for i, c in enumerate(after["category"]) if c == category]
        part = {**words, "groups": [after["picture"][i] for i in pick], "kind": category}
        previous = [before["accuracy"][i] for i in pick] if before else None
        scores.append(
            compare("hallucination", "POPE accuracy", [after["accuracy"][i] for i in pick], before=previous, **part)
        )
    return scores


def _by_kind(group: str, name: str, key: str, by: str, items: str) -> Callable[[dict, dict | None], list[Score]]:
    """Scores of the items `key`: over all, then for each value of the items `by`."""

    def scores(after: dict, before: dict | None) -> list[Score]:
        found, kinds = [], np.asarray(after[by])
        for kind in ["", *dict.fromkeys(after[by])]:
            pick = kinds == kind if kind else np.ones(len(kinds), bool)
            previous = np.asarray(before[key])[pick] if before else None
            found.append(
                compare(group, name, np.asarray(after[key])[pick], before=previous, kind=kind, items=items, unit="%")
            )
        return found

    return scores


def _edit_scores(after: dict, before: dict | None) -> list[Score]:
    words = {"items": "held-out edits", "unit": "%"}
    parts = {"changed": "what was asked for changed", "kept": "the rest stayed"}
    scores = _by_kind("editing", "edit exact", "exact", "kind", "held-out edits")(after, before)
    return scores + [
        compare("editing", label, after[k], before=before and before[k], **words) for k, label in parts.items()
    ]


_BY_TYPE = {
    "answers": _answer_scores,
    "drawings": _drawing_scores,
    "edits": _edit_scores,
    "hallucination": _hallucination_scores,
    "loss": _loss_scores,
    "masks": _mask_scores,
    "prompts": _by_kind("text to picture", "GenEval accuracy", "accuracy", "tag", "prompts"),
}
