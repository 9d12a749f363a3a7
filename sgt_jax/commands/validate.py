"""python -m sgt_jax validate --config=FILE: checks all data of a config before training; exits with 1 if a record is bad.

It reads and decodes every record and makes the sample of every part of the mixture that uses its source, so it finds what
training would skip or stop at. For each kind of bad record it prints how many there are, and the first one's path and reason.
"""

import argparse
import os
from pathlib import Path

from sgt_jax import errors
from sgt_jax.commands import configured
from sgt_jax.commands.parsing import Parser
from sgt_jax.errors import DataError, hint
from sgt_jax.parallel import progress
from sgt_jax.training import checks


def parser() -> argparse.ArgumentParser:
    """The options of the command."""
    flags = Parser(prog="python -m sgt_jax validate", description=__doc__)
    flags.add_argument("--source", action="append", help="check only this one of config.data.sources; may be repeated")
    flags.add_argument("--limit", type=int, help="check only the first LIMIT records of each source")
    flags.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="threads that decode")
    return flags


def main(arguments: list[str]) -> int:
    """The command; 1 after an error, or if a record is bad."""
    options, config = configured.parse(parser(), arguments)

    def work() -> int:
        checks.check_data(config)
        names = options.source or sorted(config.data.sources)
        if unknown := sorted(set(names) - set(config.data.sources)):
            raise DataError(f"no source '{unknown[0]}'; {hint(unknown[0], config.data.sources, 'the config has')}")
        with progress.shown(f"{config.name}: loading"):
            from sgt_jax.data.checking import validate
            from sgt_jax.data.stored.tokenised import read_settings
            from sgt_jax.training import experiment

            task = experiment.build(config)
        good = [validate(task.mixture, task.layout, name, options.limit, options.threads) for name in names]
        for name, root in sorted(task.mixture.tokenised.items()):
            begun = read_settings(Path(root)) is not None
            print(
                f"{name}: {task.mixture.tokenised_source(name) if begun else f'{root} is still to be made by tokenize'}"
            )
        return 0 if all(good) else 1

    return errors.status(work)
