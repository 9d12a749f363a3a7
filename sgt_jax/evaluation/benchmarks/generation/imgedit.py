"""ImgEdit (single turn): nine kinds of edits."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sgt_jax.errors import DataError
from sgt_jax.evaluation.benchmarks import files, layouts
from sgt_jax.evaluation.benchmarks.benchmark import Place
from sgt_jax.evaluation.benchmarks.items import Picture
from sgt_jax.evaluation.benchmarks.pictures import Generation, Prompt
from sgt_jax.evaluation.rules.official import judged, tables


def read(folder: Path) -> list[Prompt]:
    """singleturn.json (or edit.json) with the originals below the folder."""
    paths = layouts.first_files(folder, "singleturn.json", "edit.json", "**/singleturn.json")
    if not paths:
        raise DataError(f"{folder}: holds no singleturn.json")
    out = []
    for key, row in files.read_json(paths[0]).items():
        picture, bad = None, "" if "/" not in key else f"its key {key[:40]!r} is no file name"
        try:
            picture = Picture(
                row["id"], path=layouts.find(row["id"], paths[0].parent, "singleturn", "origin", "images")
            )
        except (DataError, KeyError, TypeError) as error:
            bad = bad or str(error)
        out.append(Prompt(key, str(row.get("prompt", "")), row, picture, bad))
    return out


def aggregate(prompts: Sequence[Prompt], verdicts: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, float]:
    """Types as the official script has them, and BAGEL's overall; unscored items drop out, and are counted here.

    Beside them the mean of the replies by our own reading.
    """
    means, own, unread, unread_by_us = {}, [], 0, 0
    for prompt in prompts:
        for verdict in verdicts.get(prompt.key, ()):
            if not isinstance(verdict.get("text"), str):
                raise DataError(f"imgedit, {prompt.key}: the judge's line has no 'text'")
            mean, plain = judged.read_imgedit(verdict["text"]), judged.plain_imgedit(verdict["text"])
            unread += mean is None
            unread_by_us += plain is None
            if mean is not None:
                means[prompt.key] = mean
            if plain is not None:
                own.append(plain)
    if not means and not own:
        return {}
    types = judged.imgedit_types(means, {prompt.key: prompt.row for prompt in prompts})
    overall = {"overall by BAGEL's copy": judged.imgedit_overall(means)} if means else {}
    ours = {"overall by our own reading, three scores each": tables.mean(own)} if own else {}
    return {
        **overall, **types, "replies without a score": float(unread), **ours,
        "replies without three scores": float(unread_by_us),
    }  # fmt: skip


BENCHMARK = Generation(
    name="imgedit",
    title="ImgEdit (single turn)",
    size=737,
    place=Place("", "see its repository", ("singleturn.json TYPE/NAME.jpg",)),
    read=read,
    mode="edit",
    guidance={"text_scale": 4.0, "image_scale": 1.5, "low": 0.0, "high": 1.0, "renorm": "text_channel"},
    samples=1,
    path=lambda prompt, sample, model: f"{prompt.key}.png",
    aggregate=aggregate,
    request=lambda prompt: {
        "instruction": prompt.text,
        "edit_type": prompt.row.get("edit_type", ""),
        "source": prompt.row["id"],
    },
    answer='"text": the judge\'s words, in lines such as "Prompt Compliance: 4"',
    paper=("overall by BAGEL's copy", 1, "not in the paper's tables"),
)
