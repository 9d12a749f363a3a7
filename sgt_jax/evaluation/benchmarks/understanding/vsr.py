"""VSR: statements about where things are, true or false."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from sgt_jax.errors import DataError
from sgt_jax.evaluation.benchmarks import files, layouts
from sgt_jax.evaluation.benchmarks.benchmark import (
    Outcome,
    Place,
    Understanding,
    normal_answer,
    short_prompt,
    yes_no_outcome,
)  # fmt: skip
from sgt_jax.evaluation.benchmarks.items import Item, Picture, without_repeats
from sgt_jax.evaluation.rules.official import yes_no


def read(folder: Path) -> list[Item]:
    """The toolkit's table, the hub's JSON lines with COCO photos, or parquet."""
    if paths := layouts.first_files(folder, "VSR-zeroshot.tsv", "VSR*.tsv"):
        return [normal_answer(item) for item in layouts.common_table(paths[0])]
    if paths := layouts.first_files(folder, "test*.parquet", "**/*.parquet"):
        items = layouts.parquet_items(paths, rename={"caption": "question", "label": "answer"})
        return [_asked(item) for item in items]
    if not (paths := layouts.first_files(folder, "test.jsonl", "*.jsonl")):
        raise DataError(f"{folder}: holds neither VSR-zeroshot.tsv nor test.jsonl")
    out = []
    for number, line in enumerate(row for path in paths for row in files.read_json_lines(path)):
        path = layouts.find(str(line["image"]), folder, "train2017", "val2017")
        row = {
            "question": str(line["caption"]),
            "answer": str(line["label"]),
            "relation": str(line.get("relation", "")),
        }
        item = Item(str(number), {"index": str(number), **row}, (Picture(str(line["image"]), path=path),))
        out.append(_asked(item))
    return without_repeats(out)


def _asked(item: Item) -> Item:
    """A caption becomes a question in the words of the toolkit's table."""
    row = {**item.row, "question": f"Is this statement true: {item.row['question'].rstrip('.')}?"}
    return normal_answer(dataclasses.replace(item, row=row))


def score(items: Sequence[Item], replies: Sequence[str], style: str) -> Outcome:
    """Precision, recall and accuracy in percent, F1 as a fraction; ours is in percent, from our own reading."""
    del style
    found = yes_no_outcome(items, replies, lambda rows, read, hits: yes_no.vsr_table(rows, read))
    own = yes_no.f1([item.row["answer"] for item in items], [yes_no.plain_yes_no(reply) for reply in replies])[0] * 100
    return dataclasses.replace(found, scores=found.scores | {"F1 in percent by our own reading": own})


BENCHMARK = Understanding(
    name="vsr",
    title="VSR (zero-shot)",
    size=1222,
    max_new_tokens=20,
    place=Place("cambridgeltl/vsr_zeroshot", "CC BY 4.0; photos are COCO's",
                ("VSR-zeroshot.tsv", "test.jsonl train2017/ val2017/", "*.parquet")),
    read=read,
    prompt=short_prompt,
    score=score,
    paper=("f1_score", 100, "F1 x 100 (values are no multiples of 1/1222, so they are no accuracies)"),
)  # fmt: skip
