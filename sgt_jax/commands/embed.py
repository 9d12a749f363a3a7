"""python -m sgt_jax embed --checkpoint DIR [--before DIR]: t-SNE maps of fine-grained pairs, each with its probe's score.

    embed --checkpoint AFTER --before BEFORE --pair grand_piano/ upright_piano/

Writes one PNG per pair; rows are checkpoints, columns are features (the same choices as `probe`). A map only shows
neighbourhoods: the score above it says whether two classes are separable. docs/analysis.md has the details.
"""

import argparse

from sgt_jax.commands import probe
from sgt_jax.commands.options import AFTER, BEFORE, analysis_parser, checkpoints, percent, run, write
from sgt_jax.parallel import progress


def parser() -> argparse.ArgumentParser:
    """The options of the command."""
    flags = analysis_parser("embed", __doc__)
    probe.add_pairs(flags)
    flags.add_argument("--perplexity", type=float, default=30.0)
    flags.add_argument(
        "--features", nargs="+", help="such as vit connector 'layer 3' (default: ViT, first, last layer)"
    )
    return flags


def main(arguments: list[str]) -> int:
    """The command; 1 after an error."""
    return run(embed, parser().parse_args(arguments))


def embed(options: argparse.Namespace) -> None:
    """Loads, measures, draws, writes."""
    from sgt_jax.analysis import figures
    from sgt_jax.analysis.separability import measuring
    from sgt_jax.analysis.separability.maps import t_sne

    wanted = probe.pairs(options)
    found = measuring.measured(checkpoints(options), options, wanted, lambda known: _chosen(options.features, known))
    arrays, titles = {}, {AFTER: "after" if BEFORE in found else "", BEFORE: "before"}
    for pair in wanted:
        panels = []
        for which, probed in found.items():
            row = []
            for name, (features, result) in probed[pair.name].items():
                progress.begin(f"{pair.name}: drawing the map of {name}")
                points = t_sne(features, options.seed, options.perplexity)
                arrays[f"{which}/{pair.name}/{name}"] = points
                row.append((f"{titles[which]} {name}\nprobe {percent(result.accuracy)} %".strip(), points))
            panels.append(row)
        path = options.out / f"embed_{pair.name.replace(' ', '_')}.png"
        figures.scatter(path, panels, pair.labels, pair.classes, f"{pair.name}, t-SNE and linear probe")
        arrays[f"labels/{pair.name}"] = pair.labels
        print(f"{path}: " + "; ".join(caption.replace("\n", ", ") for row in panels for caption, _ in row))
    write(options, "embed", measuring.as_json(found, wanted), arrays)


def _chosen(wanted: list[str] | None, known: list[str]) -> list[str]:
    from sgt_jax.errors import DataError, hint

    if wanted is None:
        layers = [name for name in known if name.startswith("layer")]
        return list(dict.fromkeys(["vit", layers[0], layers[-1]]))
    if missing := [name for name in wanted if name not in known]:
        raise DataError(f"no feature '{missing[0]}'; {hint(missing[0], known)}")
    return wanted
