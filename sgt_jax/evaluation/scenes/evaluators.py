"""Evaluators that only procedural scenes allow, since their worlds and pictures are known exactly: POPE, GenEval, edits.

Each has the face described in `evaluators.py`.
"""

import itertools
from collections.abc import Mapping
from typing import Any

from sgt_jax.data.examples import PlanItem
from sgt_jax.data.pictures.resizing import to_canvas
from sgt_jax.data.sources.scenes.phrases import with_article
from sgt_jax.data.tasks import Editing
from sgt_jax.errors import DataError
from sgt_jax.evaluation.result import Result, by_kind, paint
from sgt_jax.evaluation.rules import geneval, pope
from sgt_jax.evaluation.scenes import editing, oracle, prompts
from sgt_jax.evaluation.statistics import Score, compare


class Hallucination:
    """POPE's questions on held-out scenes: is there a red circle? See `hallucination.py`.

    Options: source, n (pictures), train_source and train_n (whose habits the absent classes follow), per_picture, seed,
    max_new_tokens, batch.
    """

    def __init__(self, experiment: Any, options: Mapping[str, Any]) -> None:
        self._experiment, self._options = experiment, options
        source, train = _scenes(experiment, options["source"]), _scenes(experiment, options["train_source"])
        classes = [(colour, shape) for colour in source.colours for shape in source.shapes]
        habits = pope.habits([_classes(train, i) for i in range(min(options["train_n"], len(train)))], classes)
        pictures = [_classes(source, i) for i in range(min(options["n"], len(source)))]
        self.polls = pope.polls(pictures, habits, options["per_picture"], options["seed"])
        encode = experiment.tokenizer.encode
        # A present class is asked about in all three categories: answered once, counted three times.
        self._asked = list(dict.fromkeys((p.picture, p.asked) for p in self.polls))
        self._plans = [
            (
                PlanItem("vit_image", experiment.vit_size(source[i].image)),
                PlanItem("text", list(encode(f"is there {with_article(' '.join(asked))} ?"))),
            )
            for i, asked in self._asked
        ]

    def __call__(self, params: Any) -> Result:
        options = self._options
        texts = self._experiment.sampler.answer(
            params, self._plans, max_new_tokens=options["max_new_tokens"], batch=options["batch"]
        )
        said = {key: int(pope.says_yes(text)) for key, text in zip(self._asked, texts, strict=True)}
        answers = [said[p.picture, p.asked] for p in self.polls]
        return Result(
            {
                "accuracy": [int(a == p.present) for a, p in zip(answers, self.polls, strict=True)],
                "said_yes": answers,
                "present": [int(p.present) for p in self.polls],
                "category": [p.category for p in self.polls],
                "picture": [str(p.picture) for p in self.polls],
            }
        )


class Prompts:
    """Pictures drawn for GenEval's six kinds of prompts, judged by its rules; see `geneval.py`.

    Options: source (whose shapes and colours are asked for), n (prompts of each tag), max_count, seed, batch, show, and the
    sampler's steps, shift, text_scale.
    """

    def __init__(self, experiment: Any, options: Mapping[str, Any]) -> None:
        self._experiment, self._options = experiment, options
        self._source = _scenes(experiment, options["source"])
        shapes, colours = self._source.shapes, self._source.colours
        self.prompts = prompts.prompts(options["n"], shapes, colours, options["max_count"], options["seed"])
        encode = experiment.tokenizer.encode
        self._plans = [(PlanItem("text", list(encode(entry["prompt"]))),) for entry in self.prompts]

    def __call__(self, params: Any) -> Result:
        shape = to_canvas(self._source[0].image, self._experiment.canvases).shape[:2]
        drawn = paint(self._experiment.sampler, params, self._plans, shape, range(len(self._plans)), self._options)
        found = [oracle.parse(picture, self._source.colours, self._source.shapes) for picture in drawn]
        verdicts = [geneval.judge(entry, things) for entry, things in zip(self.prompts, found, strict=True)]
        show = range(min(self._options["show"], len(drawn)))
        return Result(
            {
                "accuracy": [int(v.correct) for v in verdicts],
                "tag": [entry["tag"] for entry in self.prompts],
                "reason": [v.reason for v in verdicts],
                "prompt": [entry["prompt"] for entry in self.prompts],
            },
            ("drawn",),
            [[drawn[i]] for i in show],
            [self.prompts[i]["prompt"] for i in show],
        )


class Edits:
    """Pictures edited on request: one object changes, the rest stays; see `scene_editing.py`.

    Options: source (scenes with edits), n, see (whether the understanding encoder looks, too), seed, batch, show, and the
    sampler's steps, shift, text_scale.
    """

    def __init__(self, experiment: Any, options: Mapping[str, Any]) -> None:
        self._experiment, self._options = experiment, options
        source = _scenes(experiment, options["source"])
        if not source.edits:
            raise DataError(f"{source!r} has no edits; set `edits` in config.data.sources.{options['source']}")
        changing = (e for i in range(len(source)) if (e := source[i]).edit.extra["change"].kind != "copy")
        self._examples = list(itertools.islice(changing, options["n"]))
        task = Editing(experiment.tokenizer.encode, experiment.vit_size, experiment.canvases, options["see"])
        self._plans = [task.condition(example) for example in self._examples]

    def __call__(self, params: Any) -> Result:
        shape = to_canvas(self._examples[0].image, self._experiment.canvases).shape[:2]
        drawn = paint(self._experiment.sampler, params, self._plans, shape, range(len(self._plans)), self._options)
        items: dict[str, list] = {}
        for example, picture in zip(self._examples, drawn, strict=True):
            edit = example.edit.extra
            verdict = editing.judge_edit(example.extra["scene"], edit["change"], edit["scene"], picture)
            for name, right in verdict.items():
                items.setdefault(name, []).append(int(right))
        items["kind"] = [e.edit.extra["change"].kind for e in self._examples]
        items["request"] = [e.edit.request for e in self._examples]
        show = range(min(self._options["show"], len(drawn)))
        rows = [[self._examples[i].image, drawn[i], self._examples[i].edit.target] for i in show]
        return Result(items, ("before", "edited", "should be"), rows, [items["request"][i] for i in show])


def _scenes(experiment: Any, name: str) -> Any:
    source = experiment.source(name)
    if not hasattr(source, "scene"):
        raise DataError(f"source '{name}' has no scene descriptions: this evaluator is for procedural scenes")
    return source


def _classes(source: Any, i: int) -> list[tuple[str, str]]:
    return [(o.colour, o.shape) for o in source.scene(i).objects]


class Drawings:
    """Pictures drawn from captions, parsed by the exact oracle of the procedural scenes.

    Options: source (scenes), n, seed, batch, show, and the sampler's steps, shift, text_scale.
    """

    def __init__(self, experiment: Any, options: Mapping[str, Any]) -> None:
        self._experiment, self._options = experiment, options
        source = experiment.source(options["source"])
        self._examples = [source[i] for i in range(min(options["n"], len(source)))]
        if any("scene" not in e.extra for e in self._examples):
            raise DataError(f"{source!r} has no scene descriptions, which this evaluator's oracle needs")
        encode = experiment.tokenizer.encode
        self._plans = [(PlanItem("text", list(encode(e.caption))),) for e in self._examples]

    def __call__(self, params: Any) -> Result:
        options = self._options
        shape = to_canvas(self._examples[0].image, self._experiment.canvases).shape[:2]
        numbers = range(len(self._plans))
        drawn = paint(self._experiment.sampler, params, self._plans, shape, numbers, options)
        from sgt_jax.evaluation.scenes import oracle

        items: dict[str, list] = {}
        for example, picture in zip(self._examples, drawn):
            verdict = oracle.score_picture(example.extra["scene"], example.caption, picture)
            for name, right in verdict.items():
                items.setdefault(name, []).append(None if right is None else int(right))
        items["prompt"] = [e.caption for e in self._examples]
        show = range(min(options["show"], len(drawn)))
        rows = [[drawn[i], self._examples[i].image] for i in show]
        return Result(items, ("drawn", "a scene of this caption"), rows, [self._examples[i].caption for i in show])


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


def _edit_scores(after: dict, before: dict | None) -> list[Score]:
    words = {"items": "held-out edits", "unit": "%"}
    parts = {"changed": "what was asked for changed", "kept": "the rest stayed"}
    scores = by_kind("editing", "edit exact", "exact", "kind", "held-out edits")(after, before)
    return scores + [
        compare("editing", label, after[k], before=before and before[k], **words) for k, label in parts.items()
    ]
