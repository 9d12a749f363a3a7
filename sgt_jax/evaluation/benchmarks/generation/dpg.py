"""DPG-Bench: long descriptions, checked by questions about every statement."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sgt_jax.errors import DataError
from sgt_jax.evaluation.benchmarks import files
from sgt_jax.evaluation.benchmarks.benchmark import Place
from sgt_jax.evaluation.benchmarks.pictures import Generation, Prompt
from sgt_jax.evaluation.rules.official import dpg


def read(folder: Path) -> list[Prompt]:
    """prompts.json (NAME.txt -> prompt) or a folder `prompts/` of text files, and the question table dpg_bench.csv."""
    rows = files.read_table(folder / "dpg_bench.csv", ",")
    table = dpg.every_question(rows)
    if (folder / "prompts.json").is_file():
        texts = {name.removesuffix(".txt"): text for name, text in files.read_json(folder / "prompts.json").items()}
    else:
        texts = {path.stem: path.read_text("utf-8").strip() for path in sorted((folder / "prompts").glob("*.txt"))}
    if not texts:
        raise DataError(f"{folder}: holds neither prompts.json nor prompts/*.txt")
    out = []
    for name, text in texts.items():
        asked = table.get(name, [])
        bad = "" if asked else "the table dpg_bench.csv has no questions about it"
        bad = bad or (
            "its name has a full stop or a slash, so the scorer would not find it" if "." in name or "/" in name else ""
        )
        out.append(Prompt(name, text, {"questions": [q._asdict() | {"official": used} for q, used in asked]}, bad=bad))
    return out


def aggregate(prompts: Sequence[Prompt], verdicts: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, float]:
    """The official score from the answers to the questions about each tile, and our own count of all questions."""
    whole, official = _tables(prompts)
    said, tiles = {}, 0
    for prompt in prompts:
        for verdict in verdicts.get(prompt.key, ()):
            answers = verdict.get("answers")
            count = len(whole[prompt.key])
            if not isinstance(answers, list) or not all(
                isinstance(tile, list) and len(tile) == count for tile in answers
            ):
                raise DataError(f"dpg, {prompt.key}: the judge's 'answers' must be a list per tile of {count} texts")
            tiles = tiles or len(answers)
            said[prompt.key] = answers
    if not said:
        return {}
    order = {(key, q.text): i for key, asked in whole.items() for i, q in enumerate(asked)}

    def answer(item: str, tile: int, text: str) -> str:
        return said[item][tile][order[item, text]]

    # A table whose names are all digits is read as numbers by the official script, and then matches no file.
    found = dpg.results(official, [] if all(key.isdigit() for key in official) else list(said), tiles, answer)
    own = dpg.own_results(whole, list(said), tiles, answer)
    return {
        "DPG score": found["dpg_score"], **found["L1"],
        "DPG score by our own count, every question and every ancestor": own["score"],
        **{f"{name} by our own count, all tiles": value for name, value in own["L1"].items()},
    }  # fmt: skip


def _tables(prompts: Sequence[Prompt]) -> tuple[dict[str, list[dpg.Question]], dict[str, list[dpg.Question]]]:
    """All questions of each item, and those that the official script uses."""
    whole: dict[str, list[dpg.Question]] = {}
    official: dict[str, list[dpg.Question]] = {}
    for prompt in prompts:
        for entry in prompt.row["questions"]:
            values = {**entry, "parents": tuple(entry["parents"])}
            used = values.pop("official", True)
            whole.setdefault(prompt.key, []).append(dpg.Question(**values))
            official.setdefault(prompt.key, []).extend(whole[prompt.key][-1:] if used else ())
    return whole, {item: asked for item, asked in official.items() if asked}


BENCHMARK = Generation(
    name="dpg",
    title="DPG-Bench",
    size=1065,
    place=Place("", "see its repository", ("prompts.json dpg_bench.csv", "prompts/*.txt dpg_bench.csv")),
    read=read,
    mode="t2i",
    guidance={"text_scale": 4.0, "image_scale": 1.0, "low": 0.0, "high": 1.0, "renorm": "global"},
    samples=4,
    grid=True,
    path=lambda prompt, sample, model: f"{prompt.key}.png",
    aggregate=aggregate,
    request=lambda prompt: {"questions": [question["text"] for question in prompt.row["questions"]]},
    answer='"answers": one list per tile, in reading order, of a text per question ("yes" counts)',
    paper=("DPG score", 1, "not in the paper's tables"),
)
