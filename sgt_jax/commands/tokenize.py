"""python -m sgt_jax tokenize --config=FILE: encodes the target pictures once, so that training never runs the autoencoder.

The command handles each part of config.data.mixture that names a folder `tokenised`. It reads the part's source, encodes
every target at its own size, and stores mean and log-variance in 16 bits beside the condition; training still draws a new
latent in every step. A palette or corruption that a task draws at random is drawn once, here; instructions are drawn anew in
training. Run the command again after an interruption: it keeps the parts that are there. --share splits the work between
machines.
"""

import argparse
import os

from sgt_jax import errors
from sgt_jax.commands import configured
from sgt_jax.commands.parsing import Parser
from sgt_jax.errors import DataError
from sgt_jax.parallel import progress
from sgt_jax.training import checks


def parser() -> argparse.ArgumentParser:
    """The options of the command."""
    flags = Parser(prog="python -m sgt_jax tokenize", description=__doc__)
    flags.add_argument(
        "--part-size", type=int, default=256, help="records per file; an interruption loses at most one file"
    )
    flags.add_argument("--batch", type=int, default=4, help="pictures encoded at once")
    flags.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="threads that read and resize")
    flags.add_argument("--share", default="0/1", metavar="I/N", help="make every N-th part, beginning with the I-th")
    flags.add_argument("--dry-run", action="store_true", help="say how much would be written, and stop")
    return flags


def main(arguments: list[str]) -> int:
    """The command; 1 after an error."""
    options, config = configured.parse(parser(), arguments)

    def work() -> None:
        checks.check_data(config)
        with progress.shown(f"{config.name}: loading"):
            from sgt_jax.data.stored.tokenising import tokenize
            from sgt_jax.models.autoencoder.encoding import encoder
            from sgt_jax.parallel.distributed import prepare_platform

            prepare_platform(config.platform, 0)  # one device encodes; --share splits the work
            from sgt_jax.training import experiment

            task = experiment.build(config)
        if not task.mixture.tokenised:
            raise DataError(
                "no part of config.data.mixture names a folder 'tokenised'; set config.data.mixture.NAME.tokenised"
            )
        share = tuple(int(number) for number in options.share.split("/"))
        if len(share) != 2 or not 0 <= share[0] < share[1]:
            raise DataError(f"--share={options.share}: must look like 0/4, 1/4, ...")
        encode = (
            None
            if options.dry_run
            else encoder(task.family.autoencoder.load(task.vae_file(), task.model_config), task.model_config.vae)
        )
        vae = task.model_config.vae
        moments = (vae.downsample, 2 * vae.z_channels)
        for name in sorted(task.mixture.tokenised):
            tokenize(task.mixture, name, encode, moments, options.part_size, options.batch, options.threads, share)

    return errors.status(work)
