"""The first sentence of a page, by one function from results: five kinds of results word for word, and its limits."""

import numpy as np
import pytest

from sgt_jax.evaluation.statistics import Estimate, Score
from sgt_jax.reporting import headline
from sgt_jax.reporting.headline import MOST_WORDS, Change


def score(group, name, before, after, half, **words):
    """A score as results.json has it; values and half-width of the change in points or units."""
    scale = 100 if words.setdefault("unit", "%") == "%" else 1

    def around(value):
        return Estimate(value / scale, 150, (value - half) / scale, (value + half) / scale, "bootstrap")

    change = around(after - before) if before is not None else None
    before = None if before is None else around(before)
    return Score(group, name, "", around(after), before=before, over_before=change, **words).to_dict()


MASKS = score("segmentation", "mask mIoU", 14.6, 46.0, 3.4)
DRAWN = score("text to picture", "GenEval-style accuracy", 32.0, 19.3, 6.2)
ASKED = score("understanding", "answer accuracy", 68.8, 69.9, 2.0)
SENTENCES = {
    "better": ([MASKS], "Better: mask mIoU rose from 14.6 % to 46.0 % (+31.4 points, 95 % interval +28.0 to +34.8)."),
    "worse": (
        [DRAWN, ASKED],
        "Worse: GenEval-style accuracy fell from 32.0 % to 19.3 % (−12.7 points, 95 % interval −18.9 to −6.5); "
        "of 2 scores 0 got better, 1 worse.",
    ),
    "no difference": (
        [ASKED],
        "No measurable change: answer accuracy went from 68.8 % to 69.9 % (+1.1 points, 95 % interval −0.9 to +3.1).",
    ),
    "not scored": ([], "Nothing was scored (config.evaluators is empty); the training loss is 0.652 after step 400."),
    "mixed": (
        [ASKED, DRAWN, MASKS],
        "Mixed: mask mIoU rose by 31.4 points (95 % interval 28.0 to 34.8), GenEval-style accuracy fell by 12.7 points "
        "(6.5 to 18.9); of 3 scores 1 got better, 1 worse.",
    ),
}


@pytest.mark.parametrize("kind", SENTENCES)
def test_five_results_word_for_word(kind):
    scores, sentence = SENTENCES[kind]
    results = {"scores": scores, "unscored": "" if scores else "config.evaluators is empty"}
    text = headline.of_results(results, [{"step": 400, "kind": "train", "loss": 0.6517}])
    assert text.replace("\N{NO-BREAK SPACE}", " ") == sentence
    assert len(text.split()) <= MOST_WORDS


def test_an_error_that_falls_is_better_and_what_was_scored_once_has_no_verdict():
    loss = score("loss", "flow loss per latent token", 1.61, 0.4, 0.1, unit="nats", lower_is_better=True)
    assert headline.of_results({"scores": [loss]}).startswith("Better: flow loss per latent token fell from 1.61")
    once = headline.of_results({"scores": [score("segmentation", "mask mIoU", None, 46.0, 3.4)]})
    assert once.replace("\N{NO-BREAK SPACE}", " ") == (
        "Mask mIoU is 46.0 % (95 % interval 42.6 to 49.4) on 150 held-out items; nothing was scored before training."
    )


def test_one_seed_or_one_run_gets_no_verdict_however_narrow_its_interval():
    narrow = Estimate(0.026, 300, 0.015, 0.037, "bootstrap")
    for runs, start in ((1, "One seed, so no verdict: "), (5, "Better: ")):
        text = headline.first_sentence([Change("questions", None, narrow, arm="sgt", rival="sft", runs=runs)])
        assert text.startswith(start + "sgt is 2.6 points above sft in “questions” (95") and "+1.5 to +3.7" in text
    text = headline.first_sentence([Change("attention, layer 2,", None, narrow, runs=1)])
    assert text.startswith("One run, so no verdict: attention, layer 2, changed by +2.6 points (95")


def test_thirty_words_are_never_passed():
    rng = np.random.default_rng(0)
    names = ["panoptic quality (class-agnostic)", "what was asked for changed", "cross-entropy per answer token"]
    for _ in range(200):
        scores = [
            score("g", names[i], *rng.uniform(10, 60, 2), rng.uniform(0, 40), lower_is_better=bool(i == 2))
            for i in rng.permutation(3)
        ]
        text = headline.of_results({"scores": scores})
        assert len(text.split()) <= MOST_WORDS and text.endswith("."), text
