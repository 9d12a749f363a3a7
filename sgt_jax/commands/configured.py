"""Commands that work on an experiment: `--config=FILE[:VARIANT]` with overrides, as in training, beside their own options."""

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from absl import flags
from ml_collections import config_flags


def parse(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> tuple[argparse.Namespace, Any]:
    """Own options and the config; leaves with status 2 and one line if either is wrong."""
    parser.usage = f"{parser.prog} --config=FILE[:VARIANT] [--config.NAME=VALUE ...] [options]"
    joined: list[str] = []
    for argument in arguments:
        # "--config FILE" as well as "--config=FILE".
        if joined and joined[-1] == "--config":
            joined[-1] = f"--config={argument}"
        else:
            joined.append(argument)
    about_config = [a for a in joined if a.startswith("--config")]
    options = parser.parse_args([a for a in joined if not a.startswith("--config")])
    argv, values = [parser.prog, *about_config], flags.FlagValues()
    holder = config_flags.DEFINE_config_file(
        "config", None, "The experiment.", lock_config=True, flag_values=values, sys_argv=argv
    )
    try:
        values(argv)
        config = holder.value
    except (flags.Error, AttributeError, KeyError, TypeError, ValueError, OSError) as error:
        print(f"error: --config: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)
    if config is None:
        parser.error("--config=FILE is required")
    return options, config
