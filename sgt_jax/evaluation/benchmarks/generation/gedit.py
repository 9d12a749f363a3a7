"""GEdit-Bench: real editing requests in two languages."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sgt_jax.errors import DataError
from sgt_jax.evaluation.benchmarks import layouts
from sgt_jax.evaluation.benchmarks.benchmark import Place
from sgt_jax.evaluation.benchmarks.items import Picture
from sgt_jax.evaluation.benchmarks.pictures import Generation, Prompt
from sgt_jax.evaluation.rules.official import judged


def read(folder: Path) -> list[Prompt]:
    """The hub's parquet files."""
    paths = layouts.first_files(folder, "data/*.parquet", "*.parquet", "**/*.parquet")
    if not paths:
        raise DataError(f"{folder}: holds no parquet files of GEdit-Bench")
    out, seen = [], set()
    for row in layouts.parquet_rows(paths):
        key, kind, language = str(row.get("key")), str(row.get("task_type")), str(row.get("instruction_language"))
        name = f"{kind}/{language}/{key}"
        value = row.get("input_image") or row.get("input_image_raw")
        pictures = layouts.parquet_pictures(value, f"item {key}", folder)
        bad = (
            "has no picture"
            if not pictures
            else f"task_type {kind!r} is unknown"
            if kind not in judged.GEDIT_GROUPS
            else ""
        )
        bad = bad or (f"{name} stands twice" if name in seen else "") or _named(key)
        seen.add(name)
        kept = {k: v for k, v in row.items() if not k.startswith("input_image")}
        out.append(Prompt(name, str(row.get("instruction", "")), kept, pictures[0] if pictures else None, bad))
    return out


def _named(key: str) -> str:
    """A key becomes a file name."""
    return "" if key and "/" not in key and key not in (".", "..") else f"its key {key[:40]!r} is no file name"


def path(prompt: Prompt, sample: int, model: str) -> str:
    """MODEL/fullset/TASK/LANGUAGE/KEY.png."""
    del sample
    return f"{model}/fullset/{prompt.key}.png"


def beside(prompt: Prompt, model: str) -> dict[str, str | Picture]:
    """The source stands beside the edited picture; without it the judge skips the item without a word."""
    return {f"{model}/fullset/{prompt.key}_SRCIMG.png": prompt.picture}


def aggregate(prompts: Sequence[Prompt], verdicts: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, float]:
    """The official means by language, and our own where they are none.

    "zh" is what the official script offers for Chinese; no row has it, so that its means are not-a-number, and ours, of
    the rows that the data call "cn", stand beside them.
    """
    groups: dict[str, list[dict[str, str]]] = {}
    for prompt in prompts:
        for verdict in verdicts.get(prompt.key, ()):
            row = prompt.row
            groups.setdefault(row["task_type"], []).append({
                "sementics_score": str(_least(verdict, "semantics", prompt.key)),
                "quality_score": str(_least(verdict, "quality", prompt.key)),
                "intersection_exist": str(bool(row.get("Intersection_exist"))),
                "instruction_language": row["instruction_language"],
            })  # fmt: skip
    out = {}
    languages = {row["instruction_language"] for rows in groups.values() for row in rows}
    for language in sorted(languages | ({"zh"} if "cn" in languages else set())):
        found = judged.gedit_statistics(groups, language)
        for key, means in found.items():
            out[f"{language} / {key}"] = means[f"avg_{key.removesuffix('_intersection')}"]
        if language != "zh":
            out |= {f"{language} / overall / {group}": found["overall"][group] for group in groups}
            out |= _own(language, found)
    return out


def _own(language: str, found: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Averages over the groups that have items; for Chinese under the name that the official script has for it."""
    named = {"cn": "zh (in the data cn)"}.get(language, language)
    return {f"{named} / {key} by our own count, groups that have items": judged.gedit_where_any(found[key])
            for key in ("overall", "overall_intersection")}  # fmt: skip


def _least(verdict: Mapping[str, Any], key: str, name: str) -> float:
    """The smallest number of a judge's list."""
    value = verdict.get(key)
    values = value if isinstance(value, list) else [value]
    if not values or not all(isinstance(v, int | float) and 0 <= v <= 10 for v in values):
        raise DataError(f"gedit, {name}: the judge's {key} {str(value)[:40]!r} is no number 0 to 10, or a list of them")
    return float(min(values))


BENCHMARK = Generation(
    name="gedit",
    title="GEdit-Bench",
    size=0,
    place=Place("stepfun-ai/GEdit-Bench", "see its card", ("data/*.parquet",)),
    read=read,
    mode="edit",
    guidance={"text_scale": 4.0, "image_scale": 1.5, "low": 0.4, "high": 1.0, "renorm": "text_channel"},
    samples=1,
    path=path,
    beside=beside,
    aggregate=aggregate,
    request=lambda prompt: {"instruction": prompt.text, "source": f"{prompt.key}_SRCIMG.png"},
    answer='"semantics": [0..10, ...], "quality": [0..10, ...] (the smallest of each counts)',
    paper=("en / overall", 1, "mean over groups of sqrt(semantics x quality), English, full set"),
)
