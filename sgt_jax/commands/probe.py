"""python -m sgt_jax probe --checkpoint DIR [--before DIR]: how well a linear rule tells fine-grained classes apart.

    probe --checkpoint DIR
    probe --checkpoint AFTER --before BEFORE --pair grand_piano/ upright_piano/
    probe --checkpoint DIR --source type=scenes,max_objects=1 --classes circle square

Features are means over the image tokens of the ViT, of the connector and of chosen decoder layers. Without --pair and
--classes five pairs of procedural scenes are used. docs/analysis.md defines every number.
"""

import argparse
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sgt_jax.analysis.separability import pairs as separability_pairs
from sgt_jax.commands import options as commands_options
from sgt_jax.commands.options import AFTER, BEFORE


def add_pairs(parser: argparse.ArgumentParser) -> None:
    """The options that say which classes, which features and how many pictures; `embed` has them, too."""
    add = parser.add_argument
    add("--pair", nargs=2, metavar=("DIR_A", "DIR_B"), help="two folders of pictures, one a class")
    add("--classes", nargs=2, metavar=("A", "B"), help="two classes of --source")
    add("--n", type=commands_options.positive, default=150, help="pictures a class (default: 150)")
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


def measured(
    options: argparse.Namespace,
    wanted: Sequence[separability_pairs.Pair],
    choose: Callable[[list[str]], list[str]] = list,
) -> dict[str, dict[str, dict[str, Any]]]:
    """{"before" or "checkpoint": {pair: {feature: (features [n, width], Separability)}}} of features that `choose` keeps."""
    from sgt_jax.analysis.separability.features import chosen_layers, picture_features
    from sgt_jax.analysis.separability.probes import separability

    found: dict[str, dict] = {}
    for which, model in commands_options.checkpoints(options):
        layers = chosen_layers(model, options.layers)
        pictures = [picture for pair in wanted for picture in pair.pictures]  # together: one program serves all pairs
        features = picture_features(model, pictures, layers, prompt=options.prompt, rows=options.batch)
        features = {name: features[name] for name in choose(list(features))}
        start = 0
        for pair in wanted:
            mine = {name: x[start : start + len(pair.labels)] for name, x in features.items()}
            probed = {name: (x, separability(x, pair.labels, options.seed)) for name, x in mine.items()}
            found.setdefault(which, {})[pair.name] = probed
            start += len(pair.labels)
    return found


def as_json(found: Mapping[str, Any], wanted: Sequence[separability_pairs.Pair]) -> dict[str, Any]:
    """The scores of `measured`, and the changes where there are two checkpoints."""
    import dataclasses

    from sgt_jax.analysis.separability.probes import compared

    sections = []
    for pair in wanted:
        section: dict[str, Any] = {"pair": pair.name, "classes": pair.classes, "n": len(pair.labels)}
        for which, probed in found.items():
            section[which] = {name: result.to_json() for name, (_, result) in probed[pair.name].items()}
        if BEFORE in found:
            before, after = ({k: r for k, (_, r) in found[w][pair.name].items()} for w in (BEFORE, AFTER))
            section["change"] = {name: dataclasses.asdict(e) for name, e in compared(before, after).items()}
        sections.append(section)
    return {"pairs": sections}


def main(arguments: list[str]) -> int:
    """The command; 1 after an error."""
    parser = commands_options.parser("probe", __doc__)
    add_pairs(parser)
    return commands_options.run(probe, parser.parse_args(arguments))


def probe(options: argparse.Namespace) -> None:
    """Loads, measures, prints, writes."""
    from sgt_jax.analysis.separability.probes import compared

    wanted = pairs(options)
    found = measured(options, wanted)
    arrays = {}
    for pair in wanted:
        before = {k: r for k, (_, r) in found.get(BEFORE, {}).get(pair.name, {}).items()}
        after = {k: r for k, (_, r) in found[AFTER][pair.name].items()}
        changes = compared(before, after)
        rows = []
        for name, r in after.items():
            rows.append([
                name, commands_options.percent(r.accuracy), f"{r.auc:.3f}", _flag(r), f"{r.fisher:.3f}", f"{r.silhouette:.3f}",
                *([commands_options.percent(before[name].accuracy), commands_options.percent(changes[name])] if name in changes else []),
            ])  # fmt: skip
            arrays[f"correct/{pair.name}/{name}"] = r.correct
        head = ["feature", "accuracy % [95 %]", "AUC", "separable", "Fisher", "silhouette"]
        print(f"\n{pair.name}: {len(pair.labels)} pictures")
        print(commands_options.table(head + (["before", "change"] if changes else []), rows))
        for name, r in before.items():
            arrays[f"correct_before/{pair.name}/{name}"] = r.correct
    commands_options.note(
        "trivially: so few pictures for so many dimensions that random labels would be separable, too"
    )
    commands_options.write(options, "probe", as_json(found, wanted), arrays)


def _flag(r: Any) -> str:
    return ("yes" if not r.trivial else "trivially") if r.separable else "no"
