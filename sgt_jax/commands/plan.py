"""Plans a training step for a TPU slice before you rent it, or for GPUs: memory, work, collectives and time per chip.

    python -m sgt_jax plan --config configs/bagel_7b_sgt.py:v5p_2x2x4 --topology v5p:2x2x4 model.remat=dots
    python -m sgt_jax plan --config configs/bagel_7b_sgt.py:1x24gb_lora --topology rtx4090:1
    python -m sgt_jax plan --mode sample --config configs/omnigen2_sgt.py --topology v5p:1x1x1 --size 1024x1024

With --mode sample it plans the painting of a picture on one chip instead, by the steps and the guidance in the config's
`sampling`. Compiles the real programs with libtpu (pip install 'sgt_jax[plan]'); no TPU is needed. For GPUs there is no such
compiler, so state and work are counted and the rest is a rule of thumb, as with --estimate. FIELD=VALUE changes the config.
Exit status: 0 if it fits, 1 if it does not, 2 if it cannot be planned.
"""

import argparse
import functools
import json
import sys

from sgt_jax.commands.parsing import Parser, size_of
from sgt_jax.errors import PlanError, UserError
from sgt_jax.parallel import hardware, progress
from sgt_jax.planning import painting
from sgt_jax.planning.compiling import require_compiler
from sgt_jax.planning.planning import estimated, plan, search, table
from sgt_jax.planning.request import TASKS, Request
from sgt_jax.training import checks, config_file


def parser() -> argparse.ArgumentParser:
    """The options of the command."""
    flags = Parser(prog="python -m sgt_jax plan", description=__doc__)
    flags.add_argument("--config", required=True, help="FILE.py or FILE.py:variant")
    flags.add_argument("--topology", required=True, help="such as v5e:8x8, v5p:2x2x4, v6e:4x4, h200:8, rtx4090:1")
    flags.add_argument("--mode", choices=("train", "sample"), default="train", help="what is planned (default: train)")
    flags.add_argument("--json", action="store_true", help="print one JSON object")
    flags.add_argument(
        "--estimate",
        action="store_true",
        help="do not compile: count state and work, guess activations",
    )
    flags.add_argument(
        "--thorough",
        action="store_true",
        help="compile to machine code, which also counts its size and tries every kernel",
    )
    flags.add_argument(
        "--search",
        action="store_true",
        help="rank meshes, remat policies and micro-batches; compile the best until three fit",
    )
    # With --mode sample.
    flags.add_argument("--task", choices=TASKS, default="t2i", help="sample: what is asked of the model")
    flags.add_argument("--size", metavar="WxH", default="1024x1024",
        help="sample: of the drawing, or of the picture that is edited or segmented")  # fmt: skip
    flags.add_argument("--num", type=int, default=1, help="sample: pictures of one request, painted as one batch")
    flags.add_argument("--prompt-tokens", type=int, default=128, help="sample: length of the prompt")
    flags.add_argument("--dtype", choices=("bfloat16", "float32"), default="bfloat16", help="sample: to compute in")
    flags.add_argument("overrides", nargs="*", metavar="FIELD=VALUE", help="of the config, such as model.remat=dots")
    return flags


def main(arguments: list[str]) -> int:
    """The command; 0, 1 or 2 as described above."""
    options = parser().parse_args(arguments)
    try:
        chip, sides = hardware.parse_topology(options.topology)
        chips = hardware.chips_in(sides)
        # What is misspelt is said before JAX is imported.
        checks.check_kind(config_file.load(options.config, options.overrides))
        estimate = options.estimate or not chip.tpu
        if options.search and not chip.tpu:
            raise PlanError(f"--search compiles what it ranks, and no compiler for {chip.name} is at hand; leave it out")
        if not estimate:
            require_compiler()
        request = _request(options, chip, chips) if options.mode == "sample" else None
        with progress.shown("counting state and work"):
            if request is not None:
                return _sample(options, chip, request, not estimate)
            if options.search:
                return search(options, chip, chips)
            make = estimated if estimate else functools.partial(plan, thorough=options.thorough)
            result = make(options.config, options.overrides, options.topology, chip, chips)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(json.dumps(result, indent=1) if options.json else table(result))
    return 0 if result["fits"] else 1


def _request(options: argparse.Namespace, chip: hardware.Chip, chips: int) -> Request:
    painting.check_chips(options.topology, chip, chips)
    if options.search:
        raise PlanError("--search ranks training steps; leave it out with --mode sample")
    if min(options.num, options.prompt_tokens) < 1:
        raise PlanError("--num and --prompt-tokens count from 1")
    return Request(options.task, size_of(options.size), options.prompt_tokens, options.num, options.dtype)


def _sample(options: argparse.Namespace, chip: hardware.Chip, request: Request, compiled: bool) -> int:
    result = painting.plan_request(
        options.config, options.overrides, options.topology, chip, request, compiled=compiled, thorough=options.thorough
    )
    print(json.dumps(result, indent=1) if options.json else painting.table(result))
    return 0 if result["fits"] else 1
