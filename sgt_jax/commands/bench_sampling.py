"""python -m sgt_jax bench-sampling --checkpoint DIR: what the key-value cache and batched guidance save, in one run.

It makes two comparisons on the same weights and inputs: text written with the cache against reading the whole sequence again
for every token, and a guided picture whose branches run as one batch against one branch after another. Each side is
compiled once and the two are timed in turns, so that a busy machine slows both. If they give different results, the
command fails.
"""

import argparse
import json

from sgt_jax import errors
from sgt_jax.commands.adapter_options import check_folders
from sgt_jax.commands.parsing import Parser
from sgt_jax.parallel import progress


def parser() -> argparse.ArgumentParser:
    """The options of the command."""
    flags = Parser(prog="python -m sgt_jax bench-sampling", description=__doc__)
    flags.add_argument("--checkpoint", required=True, metavar="DIR", help="a published folder or a work directory")
    flags.add_argument("--tokens", type=int, default=64, help="length of the text")
    flags.add_argument("--batch", type=int, default=4, help="texts or pictures at a time")
    flags.add_argument("--steps", type=int, default=10, help="of the painting")
    flags.add_argument("--repeats", type=int, default=5, help="timings of each side; medians are compared")
    flags.add_argument("--json", action="store_true")
    return flags


def main(arguments: list[str]) -> int:
    """The command; 1 after an error or if the two ways disagree."""
    options = parser().parse_args(arguments)
    return errors.status(lambda: _compare(options))


def _compare(options: argparse.Namespace) -> int:
    check_folders(options)
    with progress.shown(f"loading {options.checkpoint}"):
        from sgt_jax.inference import load
        from sgt_jax.timing.sampling import time_picture, time_text

        model = load.load(options.checkpoint)
        progress.begin("timing")
        rows = [time_text(model, options), time_picture(model, options)]
    if options.json:
        print(json.dumps(rows, indent=1))
    else:
        for row in rows:
            print(f"{row['what']}: {row['slow_s']:.3f} s / {row['fast_s']:.3f} s = {row['factor']:.2f} times as fast")
            if not row["equal"]:
                print("  but the results DIFFER")
    return int(not all(row["equal"] for row in rows))
