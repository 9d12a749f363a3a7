"""python -m sgt_jax mechanism FOLDER: one page on what tuning changed inside a model, from the four analyses' files.

    mechanism analysis/
    mechanism analysis/ --study docs/results/proxies --out docs/results/mechanism.html

FOLDER holds what probe, embed, attention and align wrote with --before BASE, all or some of them. With --study, the results
of a study whose arms are proxies, the alignment of gradients before tuning is held against the gains after it.
"""

import argparse
import sys

from sgt_jax.errors import DataError


def parser() -> argparse.ArgumentParser:
    """The options of the command."""
    flags = argparse.ArgumentParser(
        prog="python -m sgt_jax mechanism", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = flags.add_argument
    add("folder", metavar="FOLDER", help="--out of the four commands")
    add("--study", metavar="RESULTS", help="results of a study (such as docs/results/proxies)")
    add(
        "--align",
        nargs="+",
        default=[],
        metavar="FILE",
        help="align.json files instead of FOLDER's, of other proxies each",
    )
    add("--out", metavar="FILE", help="the page (default: FOLDER/mechanism.html)")
    return flags


def main(arguments: list[str]) -> int:
    """The command; 1 after an error."""
    options = parser().parse_args(arguments)
    from sgt_jax.analysis.mechanism import page

    try:
        print(page.build(options.folder, options.out, study=options.study, alignments=options.align))
    except (DataError, OSError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    return 0
