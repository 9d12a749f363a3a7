"""Rebuilds the report of a run or study from its files: python -m sgt_jax report FOLDER"""

import argparse
import os
import sys

from sgt_jax.commands.parsing import Parser
from sgt_jax.errors import DataError, beside


def parser() -> argparse.ArgumentParser:
    """The options of the command."""
    flags = Parser(prog="python -m sgt_jax report", description=__doc__.partition(":")[0] + ".")
    flags.add_argument("folder", help="the work directory of a run (with results.json), or the results of a study")
    flags.add_argument("--markdown", action="store_true", help="print a study's claim and tables, and write nothing")
    return flags


def main(argv: list[str]) -> None:
    """The command."""
    options = parser().parse_args(argv)
    folder = options.folder
    if not os.path.isdir(folder):
        sys.exit(f"error: {folder}: no such folder{beside(folder)}")
    from sgt_jax.reporting import run_page
    from sgt_jax.study import page, records, tables

    try:
        if options.markdown:
            print(page.markdown(tables.read_results(folder)))
            return
        print(page.build(folder) if records.is_study(folder) else run_page.build_report(folder))
    except (FileNotFoundError, DataError) as error:
        sys.exit(f"error: {error}")
