"""All commands but training and studies: `python -m sgt_jax` lists them, `python -m sgt_jax NAME ...` runs one."""

import importlib
import sys

from sgt_jax.parallel.compiling import compilation_cache

# Name -> (module below sgt_jax.commands with a function main(arguments), what it does).
COMMANDS = {
    "align": ("align", "compare the gradients of proxy losses with that of the understanding loss"),
    "attention": ("attention", "measure where a model looks when it answers and when it paints"),
    "bench": ("bench", "time a training step and its parts"),
    "bench-sampling": ("bench_sampling", "time sampling with and without the key-value cache and batched guidance"),
    "bench-serve": ("bench_serve", "load a server with many requests, and compare its replies and its speed"),
    "convert": ("convert", "write a run's weights as a published checkpoint folder"),
    "embed": ("embed", "draw t-SNE maps of the features of similar classes"),
    "evaluate": ("evaluate", "score a checkpoint on real benchmarks by their official rules"),
    "export-vae": ("export_vae", "write the autoencoder that a nano_vae run trained"),
    "ingest": ("ingest", "convert a data set to records that training reads at random"),
    "inspect-data": ("inspect_data", "show the sample lengths, row fill, mixture and pictures of a config's data"),
    "mask-loss": ("mask_loss", "measure how well painted masks can be read back after noise, resizing or encoding"),
    "mechanism": ("mechanism", "write one page from the results of probe, embed, attention and align"),
    "parity": ("parity", "compare this code with numbers recorded from the PyTorch reference"),
    "plan": ("plan", "check whether a training step fits a TPU slice, without needing one"),
    "probe": ("probe", "measure how well a linear classifier separates similar classes, layer by layer"),
    "proxies": ("proxies", "list the generative proxies, and draw an example of each"),
    "report": ("report", "rebuild the report of a run or study from its files"),
    "sample": ("sample", "ask a checkpoint questions, or let it draw, edit and segment pictures"),
    "serve": ("serve", "open a page to try a checkpoint, and an endpoint that other tools speak"),
    "tokenize": ("tokenize", "encode the target pictures of a config once, before training"),
    "validate": ("validate", "read all data of a config and list the bad records"),
}


def main(arguments: list[str]) -> int:
    """Runs one command; returns its exit status."""
    if not arguments or arguments[0] not in COMMANDS:
        if arguments and arguments[0] not in ("-h", "--help"):
            print(f"error: no command '{arguments[0]}'", file=sys.stderr)
        print("usage: python -m sgt_jax COMMAND ...      (python -m sgt_jax COMMAND --help explains one)\n\n"
              "To train: python -m sgt_jax.main --config=FILE --workdir=DIR\n"
              "To run a study: python -m sgt_jax.study --config=FILE --workdir=DIR\n")  # fmt: skip
        for name, (_, what) in COMMANDS.items():
            print(f"  {name:15} {what}")
        return 0 if not arguments or arguments[0] in ("-h", "--help") else 2
    compilation_cache()
    module = importlib.import_module(f"sgt_jax.commands.{COMMANDS[arguments[0]][0]}")
    return int(module.main(arguments[1:]) or 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
