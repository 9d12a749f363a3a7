"""The other commands: `python -m sgt_jax` lists them, `python -m sgt_jax NAME ...` runs one."""

import importlib
import sys

# Name -> (module below sgt_jax.commands with a function main(arguments), what it does).
COMMANDS = {
    "align": ("align", "whether a proxy's loss and the understanding loss pull the same way"),
    "attention": ("attention", "where a model looks when it answers and when it paints"),
    "bench": ("bench", "time a training step and its parts against what the device can do"),
    "bench-sampling": ("bench_sampling", "time what the key-value cache and batched guidance save"),
    "convert": ("convert", "write a run's weights in the published layout"),
    "embed": ("embed", "t-SNE maps of fine-grained classes, each with its probe's score"),
    "export-vae": ("export_vae", "write the autoencoder of a nano_vae run, with the scale of its latents"),
    "ingest": ("ingest", "write a data set as shards of records, which training reads at random"),
    "mechanism": ("mechanism", "one page on what tuning changed inside a model, from the analyses' files"),
    "mask-loss": ("mask_loss", "what of painted instances can be read back: noise, resizing, autoencoder"),
    "inspect-data": ("inspect_data", "lengths, budgets, fill, mixture and pictures of what a config trains on"),
    "parity": ("parity", "compare this code with recorded numbers of the reference"),
    "plan": ("plan", "memory, work and time of a training step on a TPU slice, compiled without one"),
    "probe": ("probe", "how well a linear rule tells fine-grained classes apart, layer by layer"),
    "proxies": ("proxies", "list the generative proxies, and draw them from real photographs"),
    "report": ("report", "build the report.html of a run or a study again from its files"),
    "sample": ("sample", "talk to a checkpoint, let it draw, edit and segment"),
    "tokenize": ("tokenize", "encode the targets of a config once, for training without the autoencoder"),
    "validate": ("validate", "walk the data of a config; bad records by kind and name"),
}


def main(arguments: list[str]) -> int:
    """Runs one command; returns its exit status."""
    if not arguments or arguments[0] not in COMMANDS:
        if arguments and arguments[0] not in ("-h", "--help"):
            print(f"error: no command '{arguments[0]}'", file=sys.stderr)
        print("usage: python -m sgt_jax COMMAND ...\n\nTraining has its own: python -m sgt_jax.main --config=FILE\n")
        for name, (_, what) in COMMANDS.items():
            print(f"  {name:15} {what}")
        return 0 if not arguments or arguments[0] in ("-h", "--help") else 2
    module = importlib.import_module(f"sgt_jax.commands.{COMMANDS[arguments[0]][0]}")
    return int(module.main(arguments[1:]) or 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
