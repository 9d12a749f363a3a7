"""WISE: prompts that need knowledge of the world; the first version (scores 0 to 2) and the revision of 2026 (0 or 1)."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sgt_jax.errors import DataError
from sgt_jax.evaluation.benchmarks import files, layouts
from sgt_jax.evaluation.benchmarks.benchmark import Place
from sgt_jax.evaluation.benchmarks.pictures import Generation, Prompt
from sgt_jax.evaluation.rules.official import judged


def read(folder: Path) -> list[Prompt]:
    """final_data.json, or the JSON files of the three parts or of the revision, in the order of the ids."""
    paths = layouts.first_files(folder, "final_data.json", "data/*.json", "*.json")
    if not paths:
        raise DataError(f"{folder}: holds no final_data.json")
    rows, out, seen = [row for path in paths for row in files.read_json(path)], [], set()
    for row in rows:
        number = row.get("prompt_id")
        bad = "" if isinstance(number, int) and 1 <= number <= 1000 else f"prompt_id {number!r} is not in 1..1000"
        bad = bad or (f"prompt_id {number} stands twice" if number in seen else "")
        seen.add(number)
        out.append(Prompt(str(number), str(row.get("Prompt", "")), row, bad=bad))
    return sorted(out, key=lambda prompt: (len(prompt.key), prompt.key))


def aggregate(prompts: Sequence[Prompt], verdicts: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, float]:
    """By the rule that the judge's lines are for. All 1,000 are needed, as by the official scripts."""
    lines = [{**prompt.row, **verdict, "prompt_id": int(prompt.key)}
             for prompt in prompts for verdict in verdicts.get(prompt.key, ())]  # fmt: skip
    if not lines:
        return {}
    if all("score" in line for line in lines):
        found = judged.wise_verified(lines)
        means = {name: entry["mean"] for name, entry in found["categories"].items()}
        return {
            "WISE 2026": found["overall"],
            **means,
            "WISE 2026 by our own count, a line without a score is wrong": judged.wise_every_line(lines),
            "lines without a score": float(len(found["invalid_score_lines"])),
        }
    if not all({"consistency", "realism", "aesthetic_quality"} <= set(line) for line in lines):
        raise DataError(
            "wise: every line of the judge must have 'score', or consistency, realism and aesthetic_quality"
        )
    first, copied = judged.wise_legacy(lines), judged.wise_bagel(lines)
    return {"WiScore": first["Overall"], **{k: v for k, v in first.items() if k != "Overall"},
            "WiScore by BAGEL's copy": copied["Overall"]}  # fmt: skip


BENCHMARK = Generation(
    name="wise",
    title="WISE",
    size=1000,
    place=Place("", "see its repository", ("final_data.json", "data/*.json")),
    read=read,
    mode="t2i",
    guidance={"text_scale": 4.0, "image_scale": 1.0, "low": 0.4, "high": 1.0, "renorm": "global"},
    samples=1,
    path=lambda prompt, sample, model: f"{prompt.key}.png",
    aggregate=aggregate,
    request=lambda prompt: {"prompt": prompt.text, "explanation": prompt.row.get("Explanation", "")},
    answer='"consistency", "realism", "aesthetic_quality": 0, 1 or 2; or "score": 0 or 1 (revision)',
    paper=("WiScore", 1, "not in the paper's tables"),
)
