"""Experiments from files: FILE.py or FILE.py:VARIANT, with overrides. Every command loads its config here.

A config file has a function `get_config`, whose argument is the variant. An override is --config.NAME=VALUE among other
arguments (or NAME=VALUE for `plan`); its value takes the type of the field. Overrides change fields and add none: so a
config carries every optional field with its neutral value, and a misspelt one is an error that suggests the right name.
"""

import difflib
import importlib.util
import inspect
import os
import re
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import NamedTuple

from absl import app, flags
from ml_collections import ConfigDict, config_flags

from sgt_jax.errors import ConfigError

_FILE = re.compile(r"--?config(?:=(.*))?")
TWO_WORDS = {"--steal-lock": "--steal_lock", "--dry-run": "--dry_run"}  # as absl has them
_OVERRIDE = re.compile(r"--?(?:no)?config\.([^=]+)(?:=.*)?", re.DOTALL)


class Given(NamedTuple):
    """What the arguments of a command say.

    Attributes:
      file: of the config, with its variant; "" if no --config is among the arguments.
      config: locked, overrides applied; empty without a file.
      rest: the other arguments, in their order.
    """

    file: str
    config: ConfigDict
    rest: list[str]


def load(file: str, overrides: Sequence[str] = ()) -> ConfigDict:
    """The config of a file, "FILE.py" or "FILE.py:VARIANT", with overrides such as "model.remat=dots".

    Raises:
      ConfigError: no such file, variant or field, or a value of another type.
    """
    for text in overrides:
        if not re.match(r"[^=\s-][^=\s]*=", text):
            raise ConfigError(f"an override reads FIELD=VALUE, such as model.remat=dots, and not '{text}'")
    return split([f"--config={file}", *(f"--config.{text}" for text in overrides)]).config


def split(arguments: Sequence[str]) -> Given:
    """Takes --config and its overrides from the arguments of a command.

    Raises:
      ConfigError: as `load`.
    """
    file, rest = "", []
    waiting = False  # for FILE after "--config", as two arguments
    for argument in arguments:
        if waiting:
            file, waiting = argument, False
        elif found := _FILE.fullmatch(argument):
            file, waiting = found[1] or "", found[1] is None
        else:
            rest.append(argument)
    names = [found[1] for argument in rest if (found := _OVERRIDE.fullmatch(argument))]
    if not file:
        if names:
            raise ConfigError(f"--config.{names[0]} changes a field of a config, so give --config=FILE")
        return Given("", ConfigDict(), rest)
    config = _read(file)
    for name in names:
        _check_field(config, name)
    # The program's name is the first that absl expects.
    argv, values = ["", *rest], flags.FlagValues()
    values.set_gnu_getopt(True)
    try:
        holder = config_flags.DEFINE_config_dict("config", config, lock_config=True, flag_values=values, sys_argv=argv)
        rest = values(argv, known_only=True)[1:]
        return Given(file, holder.value, rest)
    except (flags.Error, AttributeError, KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"--config: {' '.join(str(error).removeprefix('flag ').split())}") from None


def parse_flags(argv: Sequence[str]) -> list[str]:
    """A `flags_parser` for absl's `app.run`: the flag "config", a string to absl, holds the loaded config afterwards.

    Leaves with status 1 and one line if the config cannot be loaded. Flags of two words may have a hyphen, as --steal-lock.
    """
    argv = [TWO_WORDS.get(text, text) for text in argv]
    try:
        given = split(flags.FLAGS.read_flags_from_files(list(argv), force_gnu=False)[1:])
    except ConfigError as error:
        sys.exit(f"error: {error}")
    others = app.parse_flags_with_usage([argv[0], *([f"--config={given.file}"] if given.file else []), *given.rest])
    if given.file:
        flags.FLAGS["config"].value = given.config
    return others


def _read(file: str) -> ConfigDict:
    path, _, variant = file.partition(":")
    module = _module(path)
    if not hasattr(module, "get_config"):
        raise ConfigError(f"--config: {path} has no function get_config")
    if not variant:
        return module.get_config()
    if not inspect.signature(module.get_config).parameters:
        raise ConfigError(f"--config: {path} has no variants, so not '{variant}'")
    try:
        return module.get_config(variant)
    except ValueError as error:
        raise ConfigError(f"--config: {error}") from error


def _module(path: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location("config_of_the_experiment", path)
    if spec is None or spec.loader is None or not os.path.isfile(path):
        raise ConfigError(f"--config: no config file {path}")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _check_field(config: ConfigDict, name: str) -> None:
    """Raises a ConfigError unless the config has a field of this name, such as data.mixture.proxy.weight."""
    node, where = config, "config"
    for part in name.split("."):
        if "[" in part:  # an item of a tuple: left to absl
            return
        if not isinstance(node, ConfigDict):
            raise ConfigError(f"--config.{name}: {where} is a value and has no field '{part}'")
        if part not in node:
            near = difflib.get_close_matches(part, list(node), n=1)
            hint = f"did you mean '{near[0]}'?" if near else f"{where} has {', '.join(node) or 'none'}"
            raise ConfigError(f"--config has no field '{part}'; {hint}")
        node, where = node[part], f"{where}.{part}"
