"""GenEval: objects, counts, colours and places in painted pictures."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sgt_jax.errors import DataError
from sgt_jax.evaluation.benchmarks import files
from sgt_jax.evaluation.benchmarks.benchmark import Place
from sgt_jax.evaluation.benchmarks.pictures import Generation, Prompt
from sgt_jax.evaluation.rules.official import detections


def read(folder: Path, name: str = "evaluation_metadata.jsonl") -> list[Prompt]:
    """The official metadata, one prompt a line."""
    lines = files.read_json_lines(folder / name)
    out = []
    for number, line in enumerate(lines):
        bad = (
            ""
            if isinstance(line, dict) and {"tag", "include", "prompt"} <= set(line)
            else "lacks tag, include or prompt"
        )
        out.append(Prompt(f"{number:05}", str(line.get("prompt", "")) if not bad else "", line, bad=bad))
    return out


def path(prompt: Prompt, sample: int, model: str) -> str:
    """Folders and files named by digits."""
    del model
    return f"{prompt.key}/samples/{sample:05}.png"


def beside(prompt: Prompt, model: str) -> dict[str, Any]:
    """The line itself, from which the official scorer takes the conditions."""
    del model
    return {f"{prompt.key}/metadata.jsonl": json.dumps(prompt.row)}


def aggregate(prompts: Sequence[Prompt], verdicts: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, float]:
    """Means per tag and their plain mean, from what a detector saw in every picture, and our own counts."""
    asked, correct, own = [], [], []
    right: dict[str, bool] = {}
    for prompt in prompts:
        for verdict in verdicts.get(prompt.key, ()):
            if not isinstance(verdict.get("detections"), list):
                raise DataError(f"geneval, {prompt.key}: the detector's line has no list 'detections'")
            asked.append(prompt.row)
            correct.append(detections.judge(prompt.row, verdict["detections"]).correct)
            own.append(detections.judge(prompt.row, verdict["detections"], _ALL_COLOURS).correct)
            right[prompt.key] = right.get(prompt.key, False) or correct[-1]
    if not asked:
        return {}
    found = detections.summary(asked, correct)
    return {
        "overall": found["overall"], **found["tag_means"],
        "pictures": found["images_correct"], "prompts with a right picture": found["prompts_correct"],
        "prompts with a right picture by our own count, equal ones apart": sum(right.values()) / len(right),
        "overall by our own count, colours of all objects": detections.summary(asked, own)["overall"],
    }  # fmt: skip


_ALL_COLOURS = detections.Options(all_colours=True)


def make(name: str, title: str, file: str, what: str) -> Generation:
    """GenEval with one of its prompt files."""
    return Generation(
        name=name,
        title=title,
        size=553,
        place=Place("", "MIT", (file,)),
        read=lambda folder: read(folder, file),
        mode="t2i",
        guidance={"text_scale": 4.0, "image_scale": 1.0, "low": 0.0, "high": 1.0, "renorm": "global"},
        samples=4,
        path=path,
        beside=beside,
        aggregate=aggregate,
        request=lambda prompt: {"metadata": prompt.row},
        answer='"detections": [{"class", "box": [x1, y1, x2, y2], "score", "color"?}, ...]',
        paper=("overall", 100, what),
    )


BENCHMARK = make(
    "geneval", "GenEval", "evaluation_metadata.jsonl", "mean of six tag means, plain prompts (ablation table)"
)
