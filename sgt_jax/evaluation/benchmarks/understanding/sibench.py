"""SIBench: spatial questions from many sources, in 23 settings."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from sgt_jax.errors import DataError
from sgt_jax.evaluation.benchmarks import layouts
from sgt_jax.evaluation.benchmarks.benchmark import Outcome, Place, Understanding
from sgt_jax.evaluation.benchmarks.items import Item, Picture, without_repeats
from sgt_jax.evaluation.rules.official import arithmetic, sibench, tables

# Sources whose questions get a suffix; the others have their own.
SUFFIXED = frozenset(
    ("vstibench", "MMSI-Bench", "3DSRBench", "OmniSpatial", "Spatial-MM", "SpatialMQA", "VSI-Bench", "STI-Bench",
     "SpatialEval", "SITE-Bench", "SPHERE-VLM", "SRBench", "BLINK")
)  # fmt: skip
FRAMES = 30
FRAMES_TEXT = (
    "\nYou will receive {} distinct frames that have been uniformly sampled from a video sequence, arranged in the same "
    "temporal order as they appear in the video.\nPlease analyze these frames and answer the question based on your "
    "observations.\n"
)


def read(folder: Path) -> list[Item]:
    """The official `data/SETTING.tsv` with pictures, and frames of videos below `data_sampled_video/`."""
    paths = layouts.first_files(folder, "data/*.tsv", "*.tsv")
    if not paths:
        raise DataError(f"{folder}: holds no data/SETTING.tsv")
    out = []
    for path in paths:
        for item in layouts.common_table(path):
            row = {**item.row, "setting": path.stem}
            pictures, bad = item.pictures, item.bad
            try:
                if row.get("input_type") == "video":
                    pictures = _frames(row.get("video_path", ""), folder)
                arithmetic.value(row["answer"]) if row.get("type", "").startswith("Number") else None
            except DataError as error:
                bad = bad or str(error)
            out.append(
                dataclasses.replace(item, index=f"{path.stem}/{item.index}", row=row, pictures=pictures, bad=bad)
            )
    return without_repeats(out)


def _frames(video: str, folder: Path) -> tuple[Picture, ...]:
    base = folder / "data_sampled_video" / video.split("/")[0] / "frames"
    names = [f"frame-{i}-of-{FRAMES}.jpg" for i in range(1, FRAMES + 1)]
    if not (base / names[0]).is_file():
        raise DataError(f"{base}: no frames of {video[:60]!r}; unpack data_sampled_video")
    return tuple(Picture(name, path=layouts.find(name, base)) for name in names)


def prompt(item: Item, style: str) -> str:
    """The question and, for some sources, the suffix of its answer type."""
    del style
    kind, text = item.row.get("type", ""), item.row["question"]
    if item.row.get("data_source") in SUFFIXED:
        text += sibench.SUFFIXES["Number" if kind.startswith("Number") else kind]
    return FRAMES_TEXT.format(len(item.pictures)) + text if item.row.get("input_type") == "video" else text


def score(items: Sequence[Item], replies: Sequence[str], style: str) -> Outcome:
    """The official rules with a judge that answers z; a reply by which the official scorer stops counts 0 and is named."""
    del style
    readings = [sibench.score(i.row["type"], reply, i.row["answer"]) for i, reply in zip(items, replies)]
    hits = [0.0 if r.hit is None else float(r.hit) for r in readings]
    plain = [sibench.plain_hit(i.row["type"], reply, i.row["answer"]) for i, reply in zip(items, replies)]
    rows = [item.row for item in items]
    scores = {"mean score, no judge (lower bound)": tables.mean(hits)}
    for key in ("type", "setting"):
        for name in sorted({row.get(key, "") for row in rows}):
            mine = tables.mean(hit for row, hit in zip(rows, hits) if row.get(key, "") == name)
            scores[f"{name}, no judge (lower bound)"] = mine
    scores["mean score by our own reading"] = tables.mean(plain)
    scores["replies by which the official scorer stops"] = float(sum(bool(r.raises) for r in readings))
    judged = [
        item.index
        for item, r in zip(items, readings)
        if item.row["type"] == "MCQ" and r.extracted == sibench.UNREADABLE
    ]
    return Outcome(
        scores, [r.extracted for r in readings], {"official": hits, "own reading": plain}, "official", judged
    )


BENCHMARK = Understanding(
    name="sibench",
    title="SIBench",
    size=0,
    max_new_tokens=100,
    place=Place("Two-hot/SIBench", "see its card", ("data/SETTING.tsv (23 settings) pictures/ data_sampled_video/",)),
    read=read,
    prompt=prompt,
    score=score,
    paper=("mean score, no judge", 100, "mean of hits and relative accuracies, with a judge for letters"),
)
