"""Rebuilds the report of a finished run from its files: python -m sgt_jax report WORKDIR"""

import argparse
import sys

from sgt_jax import report


def main(argv: list[str]) -> None:
    """Takes the arguments after the command's name."""
    parser = argparse.ArgumentParser(prog="python -m sgt_jax report", description=__doc__.partition(":")[0] + ".")
    parser.add_argument("workdir", help="the work directory of the run; needs its results.json")
    arguments = parser.parse_args(argv)
    try:
        print(report.build_report(arguments.workdir))
    except FileNotFoundError as error:
        sys.exit(f"error: {error}")
