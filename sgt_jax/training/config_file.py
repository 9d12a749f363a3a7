"""Experiments from files: FILE.py or FILE.py:VARIANT, with overrides. Every command loads its config here.

A config file has a function `get_config`, whose argument is the variant. An override is --config.NAME=VALUE among other
arguments (or NAME=VALUE for `plan`); its value takes the type of the field. Overrides change fields and add none: so a
config carries every optional field with its neutral value, and a misspelt one is an error that suggests the right name.
"""

import importlib.util
import inspect
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from absl import flags
from ml_collections import ConfigDict, config_flags

from sgt_jax.errors import ConfigError, nearest

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


def arm_to_compare(config: ConfigDict, arguments: Sequence[str]) -> ConfigDict | None:
    """The config that config.compare names where it is a variant of the same file, with the same overrides; None: it is not.

    Args:
      config: of the run.
      arguments: of the command that it came from.

    Raises:
      ConfigError: config.compare is a word, and neither a folder nor a variant of the file.
    """
    name = config.get("compare", "")
    if not re.fullmatch(r"\w+", name) or os.path.exists(name):
        return None
    file = split(arguments).file.partition(":")[0]
    try:
        # Of two values that an argument gives, absl takes the last.
        return split([*arguments, f"--config={file}:{name}", "--config.compare="]).config
    except ConfigError as error:
        raise ConfigError(
            f"config.compare='{name}': is no work directory of a run, and no variant of {file or 'a config file'} ({error})"
        ) from error


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
    except (ConfigError, flags.Error) as error:
        sys.exit(f"error: {error if isinstance(error, ConfigError) else _plain(error)}")
    try:
        others = flags.FLAGS([argv[0], *([f"--config={given.file}"] if given.file else []), *given.rest])
    except flags.Error as error:
        sys.exit(f"error: {_plain(error)}")
    if given.file:
        flags.FLAGS["config"].value = given.config
    return others


def _plain(error: flags.Error) -> str:
    """absl's error as a sentence that says what to type."""
    missing = re.search(r"Flag --(\w+) must have a value", str(error))
    return f"give --{missing[1]}=..., see --help" if missing else " ".join(str(error).split())


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
        known = getattr(module, "VARIANTS", ())
        near = [nearest(one, known) for one in variant.split("+") if one not in known]
        raise ConfigError(f"--config: {'; '.join([str(error), *filter(None, near)])}") from error


def shipped() -> dict[str, str]:
    """The configs that ship with the package: nano_sgt, study/ratio, ... -> the file of each."""
    (folder,) = importlib.util.find_spec("sgt_jax.configs").submodule_search_locations
    paths = [path for path in Path(folder).rglob("*.py") if not path.name.startswith("_") and path.name != "common.py"]
    return {path.relative_to(folder).with_suffix("").as_posix(): str(path) for path in sorted(paths)}


def _module(path: str) -> ModuleType:
    if not path.endswith(".py") and not os.path.exists(path):
        known = shipped()
        if path not in known:
            hint = nearest(path, known) or f"there are {', '.join(known)}, or give a FILE.py"
            raise ConfigError(f"--config: no config '{path}'; {hint}")
        path = known[path]
    spec = importlib.util.spec_from_file_location("config_of_the_experiment", path)
    if spec is None or spec.loader is None or not os.path.isfile(path):
        raise ConfigError(f"--config: no config file {path}; {_other(path)}")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _other(path: str) -> str:
    """What may have been meant by a file that is not there: a file beside it, or a config that ships."""
    name = Path(path).stem
    if name in (known := shipped()):
        return f"outside of the repository, give the name: --config={name}"
    beside = [str(other) for other in Path(path).parent.glob("*.py")]
    return nearest(path, beside) or nearest(name, known) or f"configs that ship: {', '.join(known)}"


def _check_field(config: ConfigDict, name: str) -> None:
    """Raises a ConfigError unless the config has a field of this name, such as data.mixture.proxy.weight."""
    node, where = config, "config"
    for part in name.split("."):
        if "[" in part:  # an item of a tuple: left to absl
            return
        if not isinstance(node, ConfigDict):
            raise ConfigError(f"--config.{name}: {where} is a value and has no field '{part}'")
        if part not in node:
            hint = nearest(part, node) or f"{where} has {', '.join(node) or 'none'}"
            raise ConfigError(f"--config has no field '{part}'; {hint}")
        node, where = node[part], f"{where}.{part}"
