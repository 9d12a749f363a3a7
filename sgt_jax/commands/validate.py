"""python -m sgt_jax validate --config=FILE: walks every source of a config before a run does; exit 1 if a record is bad.

Every record is read and decoded, and every part of the mixture that uses its source makes its sample of it, so that what
training would skip or stop at is known beforehand: per kind the number, and the first one with its path and the reason.
"""

import argparse
import os
from pathlib import Path

from sgt_jax import errors
from sgt_jax.commands import configured
from sgt_jax.data.checking import validate
from sgt_jax.data.stored.tokenised import read_settings
from sgt_jax.errors import DataError


def parser() -> argparse.ArgumentParser:
    """The options of the command."""
    flags = argparse.ArgumentParser(
        prog="python -m sgt_jax validate", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    flags.add_argument("--source", action="append", help="only this one of config.data.sources; may be repeated")
    flags.add_argument("--limit", type=int, help="look at the first so many records of each source")
    flags.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="that decode")
    return flags


def main(arguments: list[str]) -> int:
    """The command; 1 after an error, or if a record is bad."""
    options, config = configured.parse(parser(), arguments)
    from sgt_jax.training import experiment

    def work() -> int:
        task = experiment.build(config)
        names = options.source or sorted(config.data.sources)
        if unknown := sorted(set(names) - set(config.data.sources)):
            raise DataError(f"no source '{unknown[0]}'; the config has {', '.join(config.data.sources)}")
        good = [validate(task.mixture, task.layout, name, options.limit, options.threads) for name in names]
        for name, root in sorted(task.mixture.tokenised.items()):
            begun = read_settings(Path(root)) is not None
            print(
                f"{name}: {task.mixture.tokenised_source(name) if begun else f'{root} is still to be made by tokenize'}"
            )
        return 0 if all(good) else 1

    return errors.status(work)
