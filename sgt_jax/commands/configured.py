"""Parses `--config=FILE[:VARIANT]` with overrides, as in training, for commands that also have options of their own."""

import argparse
import sys
from collections.abc import Sequence

from ml_collections import ConfigDict

from sgt_jax.errors import ConfigError
from sgt_jax.training import config_file


def parse(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> tuple[argparse.Namespace, ConfigDict]:
    """The command's options and the config; exits with status 2 and one line if either is wrong."""
    parser.usage = f"{parser.prog} --config=FILE[:VARIANT] [--config.NAME=VALUE ...] [options]"
    try:
        given = config_file.split(arguments)
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    options = parser.parse_args(given.rest)
    if not given.file:
        parser.error("--config=FILE is required")
    return options, given.config
