"""What a run measures about its model: evaluators over any source, each giving per-item results that can be paired.

An evaluator is built once per run and called with parameters. It returns a Result: per-item arrays (kept in the work
directory, so that intervals and paired differences can be computed later), and pictures to look at. `scores` turns them
into (name, value) pairs for the log.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from sgt_jax.data.examples import Example, PlanItem
from sgt_jax.data.pictures import masks as masks_lib
from sgt_jax.data.pictures.resizing import to_canvas
from sgt_jax.data.proxies import make_pair
from sgt_jax.data.tasks import IMAGE_MARKER
from sgt_jax.errors import DataError
from sgt_jax.evaluation.rules import answers as rules_answers
from sgt_jax.evaluation.rules import segmentation
from sgt_jax.models.bagel.sampling import Guidance
from sgt_jax.parallel.distributed import fetch


@dataclasses.dataclass
class Result:
    """One evaluation of one set of weights.

    Attributes:
      items: name -> per-item values, equally long lists or arrays (numbers or strings).
      columns, rows, captions: a picture grid, may be empty.
    """

    items: dict[str, Any]
    columns: Sequence[str] = ()
    rows: Sequence[Sequence[np.ndarray | None]] = ()
    captions: Sequence[str] = ()

    def scores(self) -> Iterator[tuple[str, float]]:
        """(name, mean) of every numeric item list."""
        for name, values in self.items.items():
            array = np.asarray(values)
            if array.dtype.kind in "bif" and array.size:
                yield name, float(np.mean(array))


class HeldOutLoss:
    """Cross-entropy and flow loss on fixed batches of the training mixture, drawn from held-out sources.

    Options: source (replaces every component's source), batches.
    """

    def __init__(self, experiment: Any, options: Mapping[str, Any]) -> None:
        from sgt_jax.data.pipeline import Batches

        data = experiment.config.data
        source = experiment.source(options["source"])
        parts = [dataclasses.replace(part, source=source) for part in experiment.components()]
        stream = iter(Batches(parts, experiment.layout, dict(data.budgets), rows=data.rows, seed=data.seed + 1))
        self._batches = [next(stream)[0] for _ in range(options["batches"])]
        self._loss = jax.jit(experiment.loss)

    def __call__(self, params: Any) -> Result:
        metrics = [fetch(self._loss(params, batch, jax.random.key(i))[1]) for i, batch in enumerate(self._batches)]
        return Result({name: [float(m[name]) for m in metrics] for name in ("ce", "mse") if name in metrics[0]})


class Answers:
    """Questions answered greedily, one question per sequence, scored by exact match after normalisation.

    Options: source, n (questions), train_source and train_n (for the majority answer), max_new_tokens, batch.
    """

    def __init__(self, experiment: Any, options: Mapping[str, Any]) -> None:
        self._experiment, self._options = experiment, options
        self._questions = _questions(experiment.source(options["source"]), options["n"])
        known = _questions(experiment.source(options["train_source"]), options["train_n"])
        self.majority = rules_answers.majority_answers([q[2] for q in known], [q[1] for q in known])
        encode = experiment.tokenizer.encode
        self._plans = []
        for example, _, _, texts in self._questions:
            pictures = example.images or ((example.image,) if example.image is not None else ())
            plan = [PlanItem("vit_image", experiment.vit_size(p, len(pictures))) for p in pictures]
            self._plans.append((*plan, *(PlanItem("text", list(encode(t))) for t in texts)))

    def __call__(self, params: Any) -> Result:
        options = self._options
        predictions = self._experiment.sampler.answer(
            params, self._plans, max_new_tokens=options["max_new_tokens"], batch=options["batch"]
        )
        answers = [q[1] for q in self._questions]
        kinds = [q[2] for q in self._questions]
        guesses = [self.majority.get(kind, "") for kind in kinds]
        return Result(
            {
                "accuracy": rules_answers.correct(predictions, answers).astype(int).tolist(),
                "majority_accuracy": rules_answers.correct(guesses, answers).astype(int).tolist(),
                "prediction": predictions,
                "answer": answers,
                "kind": kinds,
                "picture": [q[0].name for q in self._questions],
                "question": [q[3][-1] for q in self._questions],
            }
        )


def _questions(source: Any, n: int) -> list[tuple[Example, str, str, tuple[str, ...]]]:
    """The first n questions of a source: (example, answer, kind, user texts before the answer)."""
    found = []
    for i in range(len(source)):
        example = source[i]
        kinds = example.extra.get("kinds") or ()
        # One question a picture: questions about the same picture are not independent.
        texts = []
        for turn in example.turns:
            if turn.role == "assistant":
                kind = kinds[0] if kinds else example.kind or "all"
                found.append((example, turn.text, kind, tuple(texts)))
                break
            text = turn.text.replace(IMAGE_MARKER, " ").strip()
            if text:
                texts.append(text)
        if len(found) == n:
            return found
    if not found:
        raise DataError(f"{source!r} holds no question with an answer")
    return found


class Masks:
    """Segmentation maps painted from photographs, decoded to instances and matched with the true ones.

    Beside each score stand the ceiling (the true map passed through the autoencoder alone) and the best constant map.

    Options: source, n, train_source and train_n (for the constant map), proxy_options, palette, max_masks, seed, batch, show,
    and the sampler's steps, shift, text_scale.
    """

    def __init__(self, experiment: Any, options: Mapping[str, Any]) -> None:
        self._experiment, self._options = experiment, options
        source = experiment.source(options["source"])
        self._examples = [source[i] for i in range(min(options["n"], len(source)))]
        rng = np.random.default_rng(options["seed"])
        pairs = [make_pair("segmentation", e, rng, **options["proxy_options"]) for e in self._examples]
        canvases = experiment.canvases
        self._targets = [to_canvas(p.target, canvases, nearest=True) for p in pairs]
        encode = experiment.tokenizer.encode
        self._plans = [
            (PlanItem("vit_image", experiment.vit_size(p.condition)), PlanItem("text", list(encode(p.instruction))))
            for p in pairs
        ]
        self._truth = [_true_instances(e, t, options["palette"]) for e, t in zip(self._examples, self._targets)]
        train = experiment.source(options["train_source"])
        known = [train[i] for i in range(min(options["train_n"], len(train)))]
        known_truth = [_true_instances(e, None, options["palette"]) for e in known]
        self._constant = segmentation.best_constant_mask(known_truth)
        self._ceiling: dict[str, list[float]] | None = None

    def __call__(self, params: Any) -> Result:
        options, sampler = self._options, self._experiment.sampler
        painted: list[Any] = [None] * len(self._plans)
        through: list[Any] = [None] * len(self._plans)
        for shape in sorted({t.shape[:2] for t in self._targets}):
            group = [i for i, t in enumerate(self._targets) if t.shape[:2] == shape]
            pictures = paint(sampler, params, [self._plans[i] for i in group], shape, group, options)
            for i, picture in zip(group, pictures):
                painted[i] = picture
            if self._ceiling is None:
                for i, picture in zip(group, sampler.through_autoencoder(params, [self._targets[i] for i in group])):
                    through[i] = picture
        if self._ceiling is None:
            self._ceiling = {f"ceiling_{k}": v for k, v in self._score(through).items()}
            constant = [_constant_for(self._constant, t.shape[:2]) for t in self._targets]
            self._ceiling.update({f"constant_{k}": v for k, v in self._compare(constant).items()})
        items = {**self._score(painted), **self._ceiling, "picture": [e.name for e in self._examples]}
        show = range(min(options["show"], len(painted)))
        rows = [[self._examples[i].image, self._targets[i], painted[i]] for i in show]
        return Result(items, ("condition", "target", "prediction"), rows)

    def _score(self, pictures: Sequence[np.ndarray]) -> dict[str, list[float]]:
        return self._compare(
            [
                masks_lib.decode(p, palette=self._options["palette"], max_masks=self._options["max_masks"])
                for p in pictures
            ]
        )

    def _compare(self, found: Sequence[np.ndarray]) -> dict[str, list[float]]:
        return {
            "miou": [float(segmentation.matched_miou(f, t)) for f, t in zip(found, self._truth)],
            "pq": [float(segmentation.panoptic_quality(f, t).pq) for f, t in zip(found, self._truth)],
        }


def _true_instances(example: Example, target: np.ndarray | None, palette: Any) -> np.ndarray:
    """bool [N, h, w]: the source's instances, or those of its shipped colour map, at the target's size."""
    instances = example.masks
    if instances is None:
        if example.mask_picture is None:
            raise DataError(f"{example.name}: has neither instance masks nor a mask picture to score against")
        picture = example.mask_picture
        instances = masks_lib.decode(picture, palette=None)
    if target is not None and instances.shape[1:] != target.shape[:2]:
        instances = masks_lib.resize_masks(instances, target.shape[:2])
    return instances


def _constant_for(constant: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    if constant.shape[1:] == shape:
        return constant
    return masks_lib.resize_masks(constant, shape)


def paint(
    sampler: Any,
    params: Any,
    plans: Sequence,
    shape: tuple[int, int],
    numbers: Sequence[int],
    options: Mapping[str, Any],
) -> np.ndarray:
    """Pictures after plans; picture i has the seed options["seed"] + i, whatever the batch."""
    return sampler.paint(
        params,
        plans,
        shape,
        seeds=[options["seed"] + i for i in numbers],
        steps=options["steps"],
        shift=options["shift"],
        batch=options["batch"],
        guidance=Guidance(text_scale=options["text_scale"]),
    )


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


class Reconstructions:
    """Photos and painted masks through the autoencoder alone: PSNR, and what of the instances comes back.

    Options: source, n, proxy_options, palette, max_masks, seed, show.
    """

    def __init__(self, experiment: Any, options: Mapping[str, Any]) -> None:
        self._experiment, self._options = experiment, options
        source = experiment.source(options["source"])
        self._examples = [source[i] for i in range(min(options["n"], len(source)))]
        rng = np.random.default_rng(options["seed"])
        pairs = [make_pair("segmentation", e, rng, **options["proxy_options"]) for e in self._examples]
        self._photos = [to_canvas(e.image, experiment.canvases) for e in self._examples]
        self._masks = [to_canvas(p.target, experiment.canvases, nearest=True) for p in pairs]
        self._truth = [_true_instances(e, t, options["palette"]) for e, t in zip(self._examples, self._masks)]

    def __call__(self, params: Any) -> Result:
        sampler = self._experiment.sampler
        photos = sampler.through_autoencoder(params, self._photos)
        masks = sampler.through_autoencoder(params, self._masks)
        found = [
            masks_lib.decode(m, palette=self._options["palette"], max_masks=self._options["max_masks"]) for m in masks
        ]
        items = {
            "photo_psnr": [_psnr(a, b) for a, b in zip(photos, self._photos)],
            "mask_psnr": [_psnr(a, b) for a, b in zip(masks, self._masks)],
            "miou": [float(segmentation.matched_miou(f, t)) for f, t in zip(found, self._truth)],
            "pq": [float(segmentation.panoptic_quality(f, t).pq) for f, t in zip(found, self._truth)],
        }
        rows = [
            [self._photos[i], photos[i], self._masks[i], masks[i]]
            for i in range(min(self._options["show"], len(masks)))
        ]
        return Result(items, ("photo", "through", "mask", "through"), rows)


def _psnr(a: np.ndarray, b: np.ndarray) -> float:
    error = np.mean((a.astype(np.float64) - b.astype(np.float64)) ** 2)
    return float(10 * np.log10(255.0**2 / max(error, 1e-2)))
