"""Compares this code with numbers recorded from the PyTorch reference, section by section; needs only the folder.

A folder holds `ckpt/` (published layout plus golden_config.json), `train_inputs.npz`, `train_expected.npz` and, where
present, the files of the other sections; tests/golden/bagel/README.md describes them. Sizes, shifts and settings are read
from the folder. A folder of scores that were recorded from official benchmark tools has a folder per benchmark with
`expected.json`. The sections are in sgt_jax/parity.
"""

import argparse
import os
import sys

from sgt_jax.commands.adapter_options import add_adapter, check_folders
from sgt_jax.commands.parsing import Parser
from sgt_jax.errors import DataError, UserError, beside, hint
from sgt_jax.parity import sections, table


def parser() -> argparse.ArgumentParser:
    """The options of the command."""
    flags = Parser(prog="python -m sgt_jax parity", description=__doc__.split("\n")[0])
    flags.add_argument("folder", metavar="DIR", help="a folder of recorded numbers")
    flags.add_argument("sections", metavar="SECTION", nargs="*", help="all by default")
    flags.add_argument("--json", action="store_true", help="print every check as one JSON object")
    flags.add_argument("--strict", action="store_true", help="absent files are failures")
    add_adapter(flags)
    flags.add_argument("--all", action="store_true", help="list every array, not only each section's worst")
    return flags


def main(arguments: list[str]) -> int:
    """The command; exit status 1 if anything is out of bounds, or absent under --strict; 2 if called wrongly."""
    options = parser().parse_intermixed_args(arguments)
    if not os.path.isdir(options.folder):
        print(f"error: {options.folder}: no such folder{beside(options.folder)}", file=sys.stderr)
        return 2
    try:
        family = sections.of_folder(options.folder)
    except DataError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    try:
        folder = family.open_folder(options.folder)
        known = sections.known(family, folder)
    except (OSError, ValueError, KeyError) as error:
        print(f"error: {options.folder} is no folder of recorded numbers: {error}", file=sys.stderr)
        return 2
    try:
        check_folders(options)
        if options.adapter and not hasattr(folder, "add_adapter"):
            raise DataError(f"{options.folder}: was recorded from no model that an adapter could be added to")
        if options.adapter:
            folder.add_adapter(options.adapter, options.adapter_scale)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if unknown := sorted(set(options.sections) - set(known)):
        print(f"error: no section {', '.join(unknown)}; {hint(unknown[0], known)}", file=sys.stderr)
        return 2
    report = table.Report(options.strict, sections.ABSENT, options.all, quiet=options.json)
    for section in options.sections or known:
        report.add(section, sections.run(folder, known, [section]))
    return report.finish()
