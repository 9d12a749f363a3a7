"""python -m sgt_jax convert WORKDIR OUT: a run's weights as a folder in the published layout of its family.

The command reads tensors from the newest checkpoint and writes them one at a time, so memory holds no whole model. OUT gets
ema.safetensors (in --dtype), ae.safetensors (unchanged), the configs and the tokenizer. Other files are copied from the
folder that the run started from.

Of a run that trained adapters (config.adapter), --adapter writes them as PEFT does, and --merge the base with the adapters
added, for which memory must hold the base.

    convert runs/mine checkpoints/SGT-mine --push me/SGT-mine --dry-run

also writes a model card from what the run measured, and shows it and the files that would go to the model hub.
"""

import argparse
import os

from sgt_jax import errors
from sgt_jax.checkpoints.folders import folder_of
from sgt_jax.commands import convert_push
from sgt_jax.commands.parsing import Parser
from sgt_jax.errors import ConfigError

DTYPES = {"bf16": "bfloat16", "f32": "float32"}


def parser() -> argparse.ArgumentParser:
    """The options of the command."""
    flags = Parser(prog="python -m sgt_jax convert", description=__doc__)
    flags.add_argument("workdir", help="the --workdir of a run")
    flags.add_argument("out", help="the folder to write; it must not exist")
    flags.add_argument("--weights", choices=("ema", "params"), default="ema", help="moving average or raw weights")
    flags.add_argument("--dtype", choices=tuple(DTYPES), default="bf16", help="of ema.safetensors")
    flags.add_argument("--step", type=int, help="a checkpoint other than the newest")
    flags.add_argument("--copy-from", metavar="DIR", help="folder with the other files (default: the run's init_from)")
    kinds = flags.add_mutually_exclusive_group()
    kinds.add_argument("--adapter", action="store_true", help="the adapters alone, in float32: adapter_model.safetensors")
    kinds.add_argument("--merge", action="store_true", help="the run's base with its adapters added")
    flags.add_argument("--push", metavar="OWNER/NAME", help="also write a card from results.json, and upload OUT to the hub")
    flags.add_argument("--dry-run", action="store_true", help="with --push: say what would be uploaded, and upload nothing")
    return flags


def main(arguments: list[str]) -> int:
    """The command; 1 after an error."""
    options = parser().parse_args(arguments)

    def work() -> None:
        name = convert_push.check_name(options.push) if options.push else ""
        if options.dry_run and not name:
            raise ConfigError("--dry-run says what --push would upload: give --push OWNER/NAME, too")
        folder_of(options.workdir, "Give the --workdir of a run.")
        import jax

        jax.config.update("jax_platforms", "cpu")
        from sgt_jax.training.publishing import publish, publish_adapter

        if options.adapter:
            if os.path.isdir(options.out) and os.listdir(options.out):
                raise errors.CheckpointError(options.out, "exists already and is not empty.", "Choose another name.")
            step = publish_adapter(options.workdir, options.out, options.weights, options.step, print)
        else:
            step = publish(
                options.workdir, options.out, options.weights, DTYPES[options.dtype], options.step, options.copy_from,
                print, options.merge,
            )  # fmt: skip
        if name:
            card = convert_push.card_of(options.workdir, options.weights, step)
            convert_push.write_card(options.out, card)
            print(f"{options.out}/{convert_push.CARD}:\n\n{card}")
            convert_push.push(options.out, name, options.dry_run)

    return errors.status(work)
