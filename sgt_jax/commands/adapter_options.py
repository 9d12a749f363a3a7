"""--adapter and --adapter-scale, for every command that opens a checkpoint; are the folders that it names there?"""

import argparse
import os

from sgt_jax.checkpoints.folders import folder_of
from sgt_jax.errors import CheckpointError, beside


def add_adapter(flags: argparse.ArgumentParser) -> None:
    """Adds the two options."""
    flags.add_argument(
        "--adapter", metavar="DIR", help="an adapter to add: a folder of PEFT, or a LoRA file of diffusers"
    )
    flags.add_argument(
        "--adapter-scale", type=float, default=1.0, metavar="S", help="what its scale is multiplied with (default: 1)"
    )


def check_folders(options: argparse.Namespace) -> None:
    """Looks for every checkpoint and adapter that the options name, before anything slow is imported.

    Raises:
      CheckpointError: one is not there; the message names what is like it.
    """
    for name in ("checkpoint", "before", "compare", "base"):
        folder = getattr(options, name, None)
        if isinstance(folder, str):
            folder_of(folder)
    adapters = getattr(options, "adapter", None) or []
    for adapter in [adapters] if isinstance(adapters, str) else adapters:
        if not os.path.exists(adapter):
            why = f"is not there{beside(adapter) or '.'}"
            raise CheckpointError(adapter, why, "Give a folder that PEFT or a run of ours wrote, or a LoRA file.")
