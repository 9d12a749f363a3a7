"""Times a training step and its parts on this machine's device and compares them with the device's peak rates.

    python -m sgt_jax bench --size 7b --layers 2 --json times.json
    python -m sgt_jax bench --mot
    python -m sgt_jax bench --data configs/nano.py
    python -m sgt_jax bench --step configs/omnigen2_sgt.py:local --repeats 3
    python -m sgt_jax bench --compile --step configs/nano_sgt.py

--step times the step of a config of any family on the first batch of its own data; with --compile, how long it takes to make
that step. Without --step the model is BAGEL's, of a named size, on random inputs: the times depend on shapes and on the mask
of a typical pack. --mot compares three ways to route slots to the two experts. --data also times how long a config's data
takes to make a batch. What needs no data needs only jax, flax and optax. `bench serve` is `bench-serve`, which loads a
server.
"""

import argparse
import json
import sys

from sgt_jax.commands.parsing import Parser
from sgt_jax.errors import ConfigError
from sgt_jax.timing import compiling
from sgt_jax.timing.step import SIZES, config_parts, data_row, measure, routed_steps, step_parts, table


def parser() -> argparse.ArgumentParser:
    """The options of the command."""
    flags = Parser(prog="python -m sgt_jax bench", description=__doc__)
    flags.add_argument("--size", choices=SIZES, default="nano")
    flags.add_argument("--layers", type=int, default=2, help="decoder and ViT layers")
    flags.add_argument("--attention", default="blockwise", help="a backend of sgt_jax/models/attention")
    flags.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    for lane, slots in (("und", 384), ("gen", 640), ("vit", 256), ("labels", 64)):
        flags.add_argument(f"--{lane}", type=int, default=slots, help=f"slots of lane {lane}")
    flags.add_argument("--repeats", type=int, default=5)
    flags.add_argument(
        "--mot", action="store_true", help="compare ways to route slots to experts, instead of timing the parts"
    )
    flags.add_argument("--data", metavar="CONFIG", help="also time the data of this config")
    flags.add_argument(
        "--step", metavar="CONFIG", help="time the step of this config (FILE.py or FILE.py:variant) instead"
    )
    flags.add_argument(
        "--compile", action="store_true", help="with --step: time tracing, lowering and compiling instead, without a cache"
    )
    flags.add_argument("--json", help="also write the rows to this file")
    return flags


def main(arguments: list[str]) -> int:
    """The command."""
    if arguments[:1] == ["serve"]:
        from sgt_jax.commands import bench_serve

        return bench_serve.main(arguments[1:])
    options = parser().parse_args(arguments)
    if options.compile and not options.step:
        raise ConfigError("--compile times the step of a config: give --step CONFIG")
    if options.compile:
        rows = compiling.compile_times(compiling.with_gradient(config_parts(options.step)))
    elif options.step:
        rows = measure(config_parts(options.step), options.repeats)
    else:
        rows = measure((routed_steps if options.mot else step_parts)(options), options.repeats)
    if options.data and not options.compile:
        rows.append(data_row(options.data, options.repeats))
    print(compiling.table(rows) if options.compile else table(rows, options.mot))
    if options.json:
        with open(options.json, "w") as file:
            json.dump(rows, file, indent=1)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
