"""Times a training step and its parts on whatever device is here, against what the device can do at most.

    python -m sgt_jax bench [--size nano|7b] [--layers N] [--und N --gen N --vit N --labels N] [--json FILE]
    python -m sgt_jax bench --mot            the step with three ways to route slots to two experts, in one run
    python -m sgt_jax bench --data FILE.py   also the time of making a batch of a config's data

Needs jax, flax and optax only, but for --data. Random numbers: times depend on shapes, and on the mask of a typical pack.
"""

import argparse
import json
import sys

from sgt_jax.timing.step import SIZES, data_row, measure, routed_steps, step_parts, table


def parser() -> argparse.ArgumentParser:
    """The options of the command."""
    flags = argparse.ArgumentParser(
        prog="python -m sgt_jax bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    flags.add_argument("--size", choices=SIZES, default="nano")
    flags.add_argument("--layers", type=int, default=2, help="decoder and ViT layers")
    flags.add_argument("--attention", default="blockwise", help="a backend of sgt_jax/attention")
    flags.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    for lane, slots in (("und", 384), ("gen", 640), ("vit", 256), ("labels", 64)):
        flags.add_argument(f"--{lane}", type=int, default=slots, help=f"slots of lane {lane}")
    flags.add_argument("--repeats", type=int, default=5)
    flags.add_argument("--mot", action="store_true", help="compare ways to route, not parts")
    flags.add_argument("--data", metavar="CONFIG", help="a config whose data is timed, too")
    flags.add_argument("--json", help="also write the rows to this file")
    return flags


def main(arguments: list[str]) -> int:
    """Takes the arguments after the command's name."""
    options = parser().parse_args(arguments)
    rows = measure((routed_steps if options.mot else step_parts)(options), options.repeats)
    if options.data:
        rows.append(data_row(options.data, options.repeats))
    print(table(rows, options.mot))
    if options.json:
        with open(options.json, "w") as file:
            json.dump(rows, file, indent=1)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
