"""python -m sgt_jax mechanism FOLDER: writes one page on what tuning changed inside a model, from the four analyses' files.

    mechanism analysis/
    mechanism analysis/ --study docs/results/proxies --out docs/results/mechanism.html
    mechanism seed_0/ --runs seed_1/ seed_2/

FOLDER holds what probe, embed, attention and align wrote with --before BASE; any of them may be missing. --study names the
results of a study whose arms are proxies: the page then compares the alignment of gradients before tuning with the gains.
One run's intervals are over pictures and questions and do not hold for other runs, so the page gives no verdict on it; --runs
adds the folders of other seeds of the same recipe, and intervals are then over runs.
"""

import argparse
import os
import sys

from sgt_jax.commands.parsing import Parser
from sgt_jax.errors import DataError, beside


def parser() -> argparse.ArgumentParser:
    """The options of the command."""
    flags = Parser(prog="python -m sgt_jax mechanism", description=__doc__)
    add = flags.add_argument
    add("folder", metavar="FOLDER", help="the --out of probe, embed, attention and align")
    add("--study", metavar="RESULTS", help="results of a study (such as docs/results/proxies)")
    add(
        "--align",
        nargs="+",
        default=[],
        metavar="FILE",
        help="align.json files to use instead of FOLDER's, each of other proxies",
    )
    add("--runs", nargs="+", default=[], metavar="FOLDER", help="the same of other seeds: intervals over runs, and verdicts")
    add("--out", metavar="FILE", help="the page (default: FOLDER/mechanism.html)")
    return flags


def main(arguments: list[str]) -> int:
    """The command; 1 after an error."""
    options = parser().parse_args(arguments)
    for folder in (options.folder, options.study):
        if folder and not os.path.isdir(folder):
            print(f"error: {folder}: no such folder{beside(folder)}", file=sys.stderr)
            return 1
    from sgt_jax.analysis.mechanism import page

    try:
        print(page.build(options.folder, options.out, study=options.study, alignments=options.align, runs=options.runs))
    except (DataError, OSError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    return 0
