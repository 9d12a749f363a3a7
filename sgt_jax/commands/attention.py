"""python -m sgt_jax attention --checkpoint DIR [--before DIR]: where a model looks, when it answers and when it paints.

    attention --checkpoint DIR
    attention --checkpoint AFTER --before BEFORE understanding --source type=scenes,size=64,max_objects=4
    attention --checkpoint DIR generation --prompts geneval_metadata.jsonl

`understanding`: share of the attention of answer tokens and of question words on the picture's tokens, per layer, and on
the object asked about. `generation`: attention of noisy latents on the prompt's words by category, over layers and times.
The numbers are the softmax weights that the model itself computed. docs/analysis.md defines every number.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sgt_jax.analysis import questions
from sgt_jax.analysis.attention import words
from sgt_jax.analysis.attention.summary import (
    _relative_change,
    answering_json,
    object_change,
    painting_json,
    value_of,
)
from sgt_jax.analysis.separability import pairs as separability_pairs
from sgt_jax.commands.options import (
    AFTER,
    BEFORE,
    analysis_parser,
    checkpoints,
    note,
    percent,
    positive,
    run,
    table,
    write,
)
from sgt_jax.errors import hint
from sgt_jax.evaluation import statistics

PARTS = ("understanding", "generation")


def parser() -> argparse.ArgumentParser:
    """The options of the command."""
    flags = analysis_parser("attention", __doc__)
    add = flags.add_argument
    add("parts", nargs="*", metavar="PART", help="understanding, generation (default: both)")
    add("--layers", type=int, nargs="+", help="decoder layers (default: at most eight, evenly spaced)")
    add("--n", type=positive, default=96, help="questions, and prompts (default: 96)")
    add("--prompts", type=Path, help="GenEval metadata, JSON lines (default: GenEval's kinds of prompts for scenes)")
    add(
        "--steps",
        type=positive,
        default=8,
        help="sampling steps of a painting, all of which are measured (default: 8)",
    )
    add(
        "--ranked", type=int, default=4, help="samples per batch whose hidden states are analysed (default: 4; 0: none)"
    )
    return flags


def main(arguments: list[str]) -> int:
    """The command; 1 after an error."""
    options = parser().parse_intermixed_args(arguments)
    if wrong := [part for part in options.parts if part not in PARTS]:
        parser().error(f"no part '{wrong[0]}'; {hint(wrong[0], PARTS)}")
    return run(attention, options)


def attention(options: argparse.Namespace) -> None:
    """Loads, measures, prints, draws, writes."""
    from sgt_jax.analysis.attention.answering import understanding_attention
    from sgt_jax.analysis.attention.painting import generation_attention
    from sgt_jax.analysis.separability.features import chosen_layers

    parts = options.parts or PARTS
    asked = None
    if "understanding" in parts:
        asked = questions.questions(
            separability_pairs.open_source(options.source or separability_pairs.HELD_OUT), options.n
        )
    found: dict[str, dict[str, Any]] = {part: {} for part in parts}
    shift = None  # of the first checkpoint, for both
    for which, model in checkpoints(options):
        layers = chosen_layers(model, options.layers)
        common = dict(rows=options.batch, ranked=options.ranked)
        if asked is not None:
            found["understanding"][which] = understanding_attention(model, asked, layers, **common)
        if "generation" in parts:
            prompts = _prompts(options, model.tokenizer)
            shift = model.defaults["t2i"].shift if shift is None else shift
            painting = chosen_layers(model, options.layers, painting=True)
            found["generation"][which] = generation_attention(
                model, prompts, painting, steps=options.steps, seed=options.seed, shift=shift, **common
            )
    report = {"understanding": _report_understanding, "generation": _report_generation}
    sections = {part: report[part](options, found[part]) for part in parts}
    arrays = {
        f"{part}/{which}/{name}": np.asarray(value)
        for part in parts
        for which, result in found[part].items()
        for name, value in result._asdict().items()
    }
    write(options, "attention", sections, arrays)


def _prompts(options: argparse.Namespace, tokenizer: Any) -> list[words.Prompt]:
    if options.prompts:
        entries = words.read_prompts(options.prompts)
    else:
        from sgt_jax.data.sources.scenes.source import NANO_COLOURS, NANO_SHAPES
        from sgt_jax.evaluation.rules.geneval import TAGS
        from sgt_jax.evaluation.scenes.geneval import prompts

        made = prompts(-(-options.n // len(TAGS)), NANO_SHAPES, NANO_COLOURS, max_count=2)
        entries = [{"prompt": e["prompt"], "objects": [part["class"] for part in e["include"]]} for e in made]
    return [words.categorised(e["prompt"], e["objects"], tokenizer) for e in entries[: options.n]]


# -- Understanding -----------------------------------------------------------------------------------------------------


def _report_understanding(options: argparse.Namespace, found: Mapping[str, Any]) -> dict[str, Any]:
    from sgt_jax.analysis import figures
    from sgt_jax.analysis.attention.answering import QUERIES

    summary = {which: answering_json(result) for which, result in found.items()}
    after, before = found[AFTER], found.get(BEFORE)
    maps, columns = {}, [str(i) for i in after.layers]
    for name, key in (("share of attention on the picture, %", "share"), ("within it, on the object, %", "object")):
        for which, sections in summary.items():
            title = name if before is None else f"{name}: {'after' if which == AFTER else 'before'}"
            maps[title] = np.array(
                [[100 * value_of(cell[key]) for cell in sections[kind]["layers"]] for kind in QUERIES]
            )
    section: dict[str, Any] = {**summary}
    signed = ()
    if before is not None:
        section["change"] = _relative_change(after, before)
        section["object_change"] = object_change(after, before)
        signed = ("relative change of the share on the picture, %",)
        maps[signed[0]] = np.array([[100 * cell["value"] for cell in section["change"][kind]] for kind in QUERIES])
    kinds = [f"{kind} tokens" for kind in QUERIES]
    path = options.out / "attention_understanding.png"
    figures.heat_maps(
        path, maps, rows=kinds, columns=columns, xlabel="decoder layer", signed=signed, title="Attention on the picture"
    )
    for kind in QUERIES:
        rows = []
        for number, cell in enumerate(summary[AFTER][kind]["layers"]):
            row = [cell["layer"], percent(statistics.Estimate(**cell["share"])), f"{cell['head']}: "]
            row[-1] += f"{100 * cell['head_share']:.1f}"
            row += [
                f"{cell['entropy']:.2f}",
                "-" if cell["object"] is None else f"{100 * value_of(cell['object']):.1f}",
            ]
            if before is not None:
                moved = section["object_change"][kind][number]
                row.append("-" if moved is None else percent(statistics.Estimate(**moved)))
                row.append(percent(statistics.Estimate(**section["change"][kind][number])))
            rows.append(row)
        head = ["layer", "picture % [95 %]", "top head: %", "entropy", "object %"]
        print(f"\nfrom {kind} tokens to the picture, {len(after.tokens)} questions")
        changes = ["object, change in points", "picture, change % [95 %]"]
        print(table(head + (changes if before is not None else []), rows))
    even = np.log(after.tokens).mean()
    area = np.nanmean(after.object_area) if np.isfinite(after.object_area).any() else np.nan
    note(f"Even attention would have an entropy of {even:.2f} and give the object {100 * area:.1f} %.")
    if after.rank.size:
        note("Effective rank of the picture's hidden states by layer: " + _list(after.rank.mean(0)))
    print(f"wrote {path}")
    return section


def _list(values: np.ndarray) -> str:
    return ", ".join(f"{v:.1f}" for v in values)


# -- Generation --------------------------------------------------------------------------------------------------------


def _report_generation(options: argparse.Namespace, found: Mapping[str, Any]) -> dict[str, Any]:
    from sgt_jax.analysis import figures
    from sgt_jax.analysis.attention.words import CATEGORIES

    summary = {which: painting_json(result) for which, result in found.items()}
    names = {AFTER: "after" if BEFORE in found else "share", BEFORE: "before"}
    series = {
        names[which]: tuple(
            np.array([100 * section["categories"][c][end] for c in CATEGORIES]) for end in ("value", "low", "high")
        )
        for which, section in summary.items()
    }
    after = found[AFTER]
    path, over = options.out / "attention_words.png", options.out / "attention_words_over_time.png"
    title = "Attention of the latents on the words of the prompt"
    figures.bars(path, CATEGORIES, series, ylabel="% of the attention on words", title=title)
    columns = [f"t={t:.2f}" for t in after.times]
    maps = {f"{c}, % of the attention on words": 100 * np.array(summary[AFTER]["by_layer_and_time"])[..., i]
            for i, c in enumerate(CATEGORIES)}  # fmt: skip
    figures.heat_maps(
        over, maps, rows=[f"layer {i}" for i in after.layers], columns=columns, xlabel="time, from noise to picture",
        title=title,
    )  # fmt: skip
    rows = []
    for c in CATEGORIES:
        row = [c]
        for section in summary.values():
            row.append(percent(statistics.Estimate(**section["categories"][c])))
            row.append(f"{100 * section['per_token'][c]:.1f}")
        rows.append(row)
    head = ["words"] + [h for w in summary for h in (f"{names[w]} % [95 %]", "per token")]
    print(f"\nfrom latents to the words of {len(after.tokens)} prompts, mean of {len(after.times)} steps")
    print(table(head, rows))
    for which, section in summary.items():
        all_keys = ", ".join(f"{k} {100 * v:.1f} %" for k, v in section["all_keys"].items())
        note(f"Of all attention ({names[which]}): {all_keys}.")
    if after.rank.size:
        note("Effective rank of the latents' hidden states by layer: " + _list(after.rank.mean((0, 1))))
    print(f"wrote {path} and {over}")
    return summary
