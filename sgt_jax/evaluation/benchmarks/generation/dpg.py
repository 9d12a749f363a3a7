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
    table = dpg.questions(rows)
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
        out.append(Prompt(name, text, {"questions": [question._asdict() for question in asked]}, bad=bad))
    return out


def aggregate(prompts: Sequence[Prompt], verdicts: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, float]:
    """The official score from the answers to the questions about each tile."""
    table = {
        p.key: [dpg.Question(**{**q, "parents": tuple(q["parents"])}) for q in p.row["questions"]] for p in prompts
    }
    said, tiles = {}, 0
    for prompt in prompts:
        for verdict in verdicts.get(prompt.key, ()):
            answers = verdict.get("answers")
            count = len(table[prompt.key])
            if not isinstance(answers, list) or not all(
                isinstance(tile, list) and len(tile) == count for tile in answers
            ):
                raise DataError(f"dpg, {prompt.key}: the judge's 'answers' must be a list per tile of {count} texts")
            tiles = tiles or len(answers)
            said[prompt.key] = answers
    order = {(key, q.text): i for key, asked in table.items() for i, q in enumerate(asked)}
    found = dpg.results(table, list(said), tiles, lambda item, tile, text: said[item][tile][order[item, text]])
    broad = {f"{name}": value for name, value in found["L1"].items()}
    own = {f"{name} by our own count, all tiles": value for name, value in _of_all_tiles(table, said).items()}
    return {"DPG score": found["dpg_score"], **broad, **own} if said else {}


def _of_all_tiles(table: Mapping[str, Sequence[dpg.Question]], said: Mapping[str, Any]) -> dict[str, float]:
    """Category -> share of questions answered with yes, times 100; the official means see the last tile only."""
    found: dict[str, list[float]] = {}
    for item, answers in said.items():
        for tile in answers:
            for question, text in zip(table[item], tile, strict=True):
                found.setdefault(question.category.split("-")[0].strip(), []).append(100.0 * (text == "yes"))
    return {name: sum(values) / len(values) for name, values in found.items()}


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
