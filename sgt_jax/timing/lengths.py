"""Empty samples with the lengths of real data (sgt_jax/assets/real_lengths.json), for measuring how rows are packed."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from sgt_jax.data.pictures.resizing import resize_rule

MODEL = Path(__file__).parents[1] / "assets" / "real_lengths.json"
# The recipe's resize rules: stride, shortest and longest side, most pixels (configs/bagel_7b_sgt.py).
PROXY_VIT = (14, 224, 224)
TARGET = (16, 512, 1024)
QUESTION_VIT = (14, 378, 980, 2_007_040)
TEXT_DROPOUT = 0.1
MARKERS = 2  # first and last token of a text, or the two around a picture


def segmentation_lengths(rng: np.random.Generator, model: Mapping) -> dict[str, int]:
    """Slots per lane of one photo with its map to paint."""
    sizes = np.array(model["sam"]["sizes"])
    width, height = sizes[rng.choice(len(sizes), p=sizes[:, 2] / sizes[:, 2].sum()), :2].astype(int).tolist()
    vit, gen = slots(width, height, PROXY_VIT), slots(width, height, TARGET)
    text = tokens(rng, model["sam"]["instruction"]) + MARKERS
    und = vit + MARKERS + (text if rng.random() >= TEXT_DROPOUT else 0) + MARKERS
    return {"und": und, "vit": vit, "gen": gen}


def question_lengths(rng: np.random.Generator, model: Mapping) -> dict[str, int]:
    """Slots per lane of one LLaVA-OneVision record."""
    categories = model["llava_onevision"]
    shares = np.array([category["share"] for category in categories])
    subsets = categories[rng.choice(len(categories), p=shares / shares.sum())]["subsets"]
    draws = np.array([subset["draws"] for subset in subsets])
    subset = subsets[rng.choice(len(subsets), p=draws / draws.sum())]
    lanes = {"und": 0, "vit": 0, "labels": 0}
    if subset["sizes"]:
        sizes = np.array(subset["sizes"], float)
        width, height = sizes[rng.choice(len(sizes), p=sizes[:, 2] / sizes[:, 2].sum()), :2]
        scale = np.exp(rng.normal(0, subset["spread"]))
        lanes["vit"] = slots(round(width * scale), round(height * scale), QUESTION_VIT)
        lanes["und"] = lanes["vit"] + MARKERS
    for _ in range(rng.geometric(1 / subset["turns"])):
        question, answer = tokens(rng, subset["question"]), tokens(rng, subset["answer"])
        lanes["und"] += question + answer + 2 * MARKERS
        lanes["labels"] += answer + 1
    return lanes


def slots(width: int, height: int, rule: tuple[int, ...]) -> int:
    """Tokens of a picture after a resize rule."""
    new = resize_rule(width, height, *rule)
    return new[0] * new[1] // rule[0] ** 2


def tokens(rng: np.random.Generator, law: list[float]) -> int:
    """A log-normal number of tokens: [median, sigma]."""
    return max(1, round(law[0] * np.exp(rng.normal(0, law[1]))))


def mixed(n: int, seed: int = 0, ratio: int = 2) -> Iterator[tuple[str, dict[str, int]]]:
    """n samples in the recipe's exact pattern: `ratio` photos to paint for each question record."""
    rng, model = np.random.default_rng(seed), json.loads(MODEL.read_text())
    for i in range(n):
        if i % (ratio + 1) < ratio:
            yield "segmentation", segmentation_lengths(rng, model)
        else:
            yield "understanding", question_lengths(rng, model)
