"""Checks of what was recorded from the scorers of painted pictures."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sgt_jax.evaluation.benchmarks import files
from sgt_jax.evaluation.rules.official import detections, dpg, judged
from sgt_jax.parity.benchmarks.folder import close, close_all, expected_of, same
from sgt_jax.parity.checks import Check


def geneval(folder: Path) -> Iterator[Check]:
    """Verdicts and kept boxes per picture, means, the printed text, positions, overlaps and their suppression."""
    name, expected = folder.name, expected_of(folder)
    metadata = files.read_json_lines(folder / "evaluation_metadata.jsonl")
    found = {d["filename"]: d["detections"] for d in files.read_json_lines(folder / "detections.jsonl")}
    options = detections.Options(**expected["options"])
    asked, correct = [], []
    recorded = files.read_json_lines(folder / "results.jsonl")
    yield same(name, "pictures", sorted(found), sorted(line["filename"] for line in recorded))
    for line in recorded:
        entry = metadata[int(line["filename"].split("/")[0])]
        verdict = detections.judge(entry, found[line["filename"]], options)
        asked.append(entry)
        correct.append(verdict.correct)
        yield same(name, f"{line['filename']} correct", verdict.correct, line["correct"])
        yield same(name, f"{line['filename']} tag", entry["tag"], line["tag"])
        yield same(name, f"{line['filename']} boxes", verdict.details, json.loads(line["details"]))
    summary = detections.summary(asked, correct)
    yield from close_all(name, "tag_means", summary["tag_means"], expected["tag_means"])
    for key in ("n_images", "n_prompts"):
        yield same(name, key, summary[key], expected[key])
    yield close(name, "overall", summary["overall"], expected["overall"])
    if (folder / "summary.txt").exists():
        printed = (folder / "summary.txt").read_text("utf-8")
        yield same(name, "summary.txt", detections.summary_text(summary).split(), printed.split())
    yield from _geometry(name, expected)


def _geometry(name: str, expected: dict[str, Any]) -> Iterator[Check]:
    threshold = expected["options"]["position_threshold"]
    for i, entry in enumerate(expected["relative_position"]):
        got = detections.relations(entry["a"], entry["b"], threshold)
        yield same(name, f"position {i}", sorted(got), sorted(entry["relations"]))
    for i, entry in enumerate(expected["compute_iou"]):
        yield close(name, f"overlap {i}", detections.overlap(entry["a"], entry["b"]), entry["iou"])
    for i, entry in enumerate(expected["with_overlap_suppression"]):
        options = detections.Options(**expected["options"] | {"max_overlap": entry["max_overlap"]})
        verdict = detections.judge(entry["metadata"], entry["detections"], options)
        yield same(name, f"suppression {i}", verdict.correct, entry["correct"])
        yield same(name, f"suppression {i} boxes", verdict.details, entry["kept"])


def gedit(folder: Path) -> Iterator[Check]:
    """Means per group and language, judges' texts, the tree that the judge reads."""
    name, expected = folder.name, expected_of(folder)
    paths = sorted(folder.glob("scores/*/*/eval_results_new/*_gpt_score.csv"))
    groups = {}
    for path in paths:
        model = path.parts[-4]
        groups[path.name.removeprefix(f"{model}_").removesuffix("_gpt_score.csv")] = files.read_table(path, ",")
    for language, recorded in expected["statistics"].items():
        got = judged.gedit_statistics(groups, language)
        yield from close_all(name, language, got, recorded)
    for i, entry in enumerate(expected["judge_text_parsing"]):
        yield same(name, f"judge text {i}", judged.read_viescore(entry["text"]), entry["parsed_score"])
    tree = expected["output_tree"]["read_by_judge"]
    model = tree[0].split("/")[0]
    paths = [f"{model}/fullset/{i['task_type']}/{i['instruction_language']}/{i['key']}{end}.png"
             for i in files.read_json_lines(folder / "items.jsonl") for end in ("", "_SRCIMG")]  # fmt: skip
    yield same(name, "tree", sorted(paths), sorted(tree))


def wise(folder: Path) -> Iterator[Check]:
    """The legacy rule, BAGEL's copy of it, the verified revision, judges' texts."""
    name, expected = folder.name, expected_of(folder)
    lines = [line for path in sorted(folder.glob("legacy/*.jsonl")) for line in files.read_json_lines(path)]
    yield from close_all(name, "legacy", judged.wise_legacy(lines), expected["legacy"]["category_means"])
    yield from close_all(name, "bagel_copy", judged.wise_bagel(lines), expected["bagel_copy"]["values"])
    found = judged.wise_verified(files.read_json_lines(folder / "verified" / "all_scores.jsonl"))
    recorded = expected["verified"]
    yield from close_all(name, "verified", found["categories"], recorded["categories"])
    yield close(name, "verified overall", found["overall"], recorded["overall"])
    yield same(name, "invalid lines", found["invalid_score_lines"], recorded["invalid_score_lines"])
    for i, entry in enumerate(expected["verified_judge_text"]):
        yield same(name, f"judge text {i}", judged.read_verified(entry["text"]), entry["result"])


def dpg_bench(folder: Path) -> Iterator[Check]:
    """Scores for one and four tiles: overall, categories, items."""
    name, expected = folder.name, expected_of(folder)
    table = dpg.questions(files.read_table(folder / "dpg_bench.csv", ","))
    said = {(a["item_id"], a["sample"], a["question"]): a["answer"] for a in files.read_json(folder / "answers.json")}
    pictures = [file.split(".")[0] for file in expected["output_tree"]["files"]]
    for key, recorded in expected["results"].items():
        found = dpg.results(table, pictures, int(key.removeprefix("pic_num_")), lambda *asked: said[asked])
        yield close(name, f"{key} dpg_score", found["dpg_score"], recorded["dpg_score"])
        for level in ("L1", "L2", "items"):
            yield from close_all(name, f"{key} {level}", found[level], recorded[level])


def img_edit(folder: Path) -> Iterator[Check]:
    """Means per item and type, BAGEL's overall, the tree."""
    name, expected = folder.name, expected_of(folder)
    edits, texts = (files.read_json(folder / file) for file in ("edit.json", "result.json"))
    means = {key: judged.read_imgedit(text) for key, text in texts.items()}
    means = {key: value for key, value in means.items() if value is not None}
    yield from close_all(name, "average_score", means, expected["average_score"])
    types = judged.imgedit_types(means, edits)
    yield from close_all(name, "type_score", types, expected["type_score"])
    copied = {**types, "overall": judged.imgedit_overall(means)}
    yield from close_all(name, "bagel copy", copied, expected["type_score_bagel_copy"])
    try:
        raised = str(judged.read_imgedit({"error": "no picture"}))  # type: ignore[arg-type]
    except AttributeError as error:
        raised = type(error).__name__
    yield same(name, "error entry", raised, expected["error_entry_raises"])
    yield same(name, "tree", sorted(f"{key}.png" for key in edits), sorted(expected["output_tree"]["files"]))
