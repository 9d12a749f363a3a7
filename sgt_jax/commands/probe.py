"""python -m sgt_jax probe --checkpoint DIR [--before DIR]: how well a linear classifier separates similar classes.

    probe --checkpoint DIR
    probe --checkpoint AFTER --before BEFORE --pair grand_piano/ upright_piano/
    probe --checkpoint DIR --source type=scenes,max_objects=1 --classes circle square

Features are means over the image tokens after the ViT, the connector and some decoder layers. Without --pair or --classes
the command uses five pairs of procedural scenes. docs/analysis.md defines every number.
"""

import argparse
from typing import Any

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


def add_pairs(parser: argparse.ArgumentParser) -> None:
    """The options that say which classes, which features and how many pictures; `embed` has them, too."""
    add = parser.add_argument
    add("--pair", nargs=2, metavar=("DIR_A", "DIR_B"), help="two folders of pictures, one a class")
    add("--classes", nargs=2, metavar=("A", "B"), help="two classes of --source")
    add("--n", type=positive, default=150, help="pictures a class (default: 150)")
    add("--layers", type=int, nargs="+", help="decoder layers (default: at most eight, evenly spaced)")
    add("--prompt", default="", help="a text to read before the picture (default: none)")


def pairs(options: argparse.Namespace) -> list[separability_pairs.Pair]:
    """The pairs that the options ask for."""
    if options.pair:
        return [separability_pairs.folder_pair(*options.pair, options.n)]
    if options.classes:
        source = separability_pairs.open_source(options.source or {**separability_pairs.HELD_OUT, "max_objects": 1})
        return [separability_pairs.class_pair(source, tuple(options.classes), options.n)]
    if options.source and options.source.get("type") != "scenes":
        raise separability_pairs.DataError("say which two classes of --source to tell apart: --classes A B")
    return separability_pairs.scene_pairs(options.n, options.source)


def parser() -> argparse.ArgumentParser:
    """The options of the command."""
    flags = analysis_parser("probe", __doc__)
    add_pairs(flags)
    return flags


def main(arguments: list[str]) -> int:
    """The command; 1 after an error."""
    return run(probe, parser().parse_args(arguments))


def probe(options: argparse.Namespace) -> None:
    """Loads, measures, prints, writes."""
    from sgt_jax.analysis.separability.measuring import as_json, measured
    from sgt_jax.analysis.separability.probes import compared

    wanted = pairs(options)
    found = measured(checkpoints(options), options, wanted)
    arrays = {}
    for pair in wanted:
        before = {k: r for k, (_, r) in found.get(BEFORE, {}).get(pair.name, {}).items()}
        after = {k: r for k, (_, r) in found[AFTER][pair.name].items()}
        changes = compared(before, after)
        rows = []
        for name, r in after.items():
            rows.append([
                name, percent(r.accuracy), f"{r.auc:.3f}", _flag(r), f"{r.fisher:.3f}", f"{r.silhouette:.3f}",
                *([percent(before[name].accuracy), percent(changes[name])] if name in changes else []),
            ])  # fmt: skip
            arrays[f"correct/{pair.name}/{name}"] = r.correct
        head = ["feature", "accuracy % [95 %]", "AUC", "separable", "Fisher", "silhouette"]
        print(f"\n{pair.name}: {len(pair.labels)} pictures")
        print(table(head + (["before", "change"] if changes else []), rows))
        for name, r in before.items():
            arrays[f"correct_before/{pair.name}/{name}"] = r.correct
    note("trivially: so few pictures for so many dimensions that random labels would be separable, too")
    write(options, "probe", as_json(found, wanted), arrays)


def _flag(r: Any) -> str:
    return ("yes" if not r.trivial else "trivially") if r.separable else "no"
