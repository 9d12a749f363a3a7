"""python -m sgt_jax align --checkpoint DIR: do the gradients of a proxy and of understanding agree?

    align --checkpoint DIR --proxies segmentation depth edges reconstruction
    align --checkpoint DIR --parameters 'layers_0/und/(q|k|v)_proj/kernel'

Compares the gradient of each proxy's flow loss with that of the understanding loss on the same pictures: at the output of
an early pre-attention RMSNorm of the understanding branch, or for the parameters that match a pattern. No training is
needed. docs/analysis.md defines every number and says how to recognise one that is only noise.
"""

import argparse
from typing import Any

import numpy as np

from sgt_jax.analysis import questions
from sgt_jax.analysis.separability import pairs
from sgt_jax.commands.options import AFTER, BEFORE, analysis_parser, checkpoints, note, positive, run, table, write
from sgt_jax.data.pictures.masks import PALETTES
from sgt_jax.data.proxies import PROXIES
from sgt_jax.errors import DataError, hint

COMPARED = ("segmentation", "outlines", "depth", "edges", "mae", "reconstruction")


def parser() -> argparse.ArgumentParser:
    """The options of the command."""
    flags = analysis_parser("align", __doc__)
    add = flags.add_argument
    add("--proxies", nargs="+", default=list(COMPARED), metavar="NAME", help=f"(default: {' '.join(COMPARED)})")
    add("--style", choices=("plain", "general"), help="of the instructions (default: plain for a tiny vocabulary)")
    add("--palette", default="distinct", help="of segmentation targets (default: distinct)")
    add("--layer", type=int, default=0, help="decoder layer whose pre-attention norm is used (default: 0)")
    add(
        "--parameters",
        metavar="REGEX",
        help="use the gradients of the parameters whose path matches, not of activations",
    )
    add("--n", type=positive, default=192, help="pictures (default: 192)")
    return flags


def main(arguments: list[str]) -> int:
    """The command; 1 after an error."""
    return run(align, parser().parse_args(arguments), check)


def check(options: argparse.Namespace) -> None:
    """What can be said of the options before anything is loaded."""
    if unknown := [name for name in options.proxies if name not in PROXIES]:
        raise DataError(f"no proxy '{unknown[0]}'; {hint(unknown[0], sorted(PROXIES))}")
    if options.palette not in PALETTES:
        raise DataError(f"--palette: no palette '{options.palette}'; {hint(options.palette, PALETTES)}")
    if options.n < 4:
        raise DataError("--n must be at least 4: fewer gradients say nothing about their mean")


def align(options: argparse.Namespace) -> None:
    """Loads, measures, prints, draws, writes."""
    from sgt_jax.analysis import figures
    from sgt_jax.analysis.alignment.cosine import alignment
    from sgt_jax.analysis.alignment.gradients import mean_gradients

    asked = questions.questions(pairs.open_source(options.source or pairs.HELD_OUT), options.n)
    results: dict[str, dict[str, Any]] = {}
    means: dict[str, np.ndarray] = {}
    for which, model in checkpoints(options):
        gradients = mean_gradients(options, model, asked)
        understanding = gradients.pop("understanding")
        results[which] = {name: alignment(x, understanding, options.seed) for name, x in gradients.items()}
        means |= {f"{which}/{name}": x.mean(0) for name, x in (gradients | {"understanding": understanding}).items()}
        rows = [
            [
                name, f"{r.cosine.value:+.3f} [{r.cosine.low:+.3f}, {r.cosine.high:+.3f}]", f"{r.projected:+.3f}",
                r.components, f"{r.effective_dimension:.1f}", f"{r.score:+.2f}", f"{r.per_example:+.3f}",
                f"{r.reliability[0]:.2f}, {r.reliability[1]:.2f}",
            ] for name, r in results[which].items()
        ]  # fmt: skip
        head = ["proxy", "cosine [95 %]", "projected", "dims", "effective", "score", "per example", "own halves"]
        print(f"\ngradients of {len(asked)} pictures at {_place(options)}" + (f", {which}" if options.before else ""))
        print(table(head, rows))
    note(
        "own halves: cosine between the mean gradients of two halves of one loss's own examples, the proxy's and then "
        "understanding's. Where one of them is near 0 or below, that mean is noise, and so is the cosine: raise --n."
    )
    path = options.out / "align.png"
    names = {AFTER: "after" if options.before else "checkpoint", BEFORE: "before"}
    series = {
        names[which]: tuple(
            np.array([getattr(r.cosine, end) for r in found.values()]) for end in ("value", "low", "high")
        )
        for which, found in results.items()
    }
    title = "Gradient of each proxy's loss against understanding's"
    figures.bars(path, options.proxies, series, ylabel="cosine of mean gradients", title=title, zero=True)
    print(f"wrote {path}")
    summary = {which: {name: r.to_json() for name, r in found.items()} for which, found in results.items()}
    write(options, "align", {"place": _place(options), "n": len(asked), **summary}, means)


def _place(options: argparse.Namespace) -> str:
    return options.parameters or f"the pre-attention norm of layer {options.layer}"
