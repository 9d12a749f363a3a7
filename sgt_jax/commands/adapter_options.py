"""--adapter and --adapter-scale, for every command that opens a checkpoint."""

import argparse


def add_adapter(flags: argparse.ArgumentParser) -> None:
    """Adds the two options."""
    flags.add_argument(
        "--adapter", metavar="DIR", help="an adapter to add: a folder of PEFT, or a LoRA file of diffusers"
    )
    flags.add_argument(
        "--adapter-scale", type=float, default=1.0, metavar="S", help="what its scale is multiplied with (default: 1)"
    )
