"""Every command by its name: `sgt` (or `python -m sgt_jax`) lists them, `sgt NAME ...` runs one."""

import importlib
import runpy
import sys

from sgt_jax.errors import guarded, nearest
from sgt_jax.parallel.host_memory import begin_with_huge_pages

# Name -> (module below sgt_jax.commands with a function main(arguments), what it does).
COMMANDS = {
    "align": ("align", "compare the gradients of proxy losses with that of the understanding loss"),
    "attention": ("attention", "measure where a model looks when it answers and when it paints"),
    "bench": ("bench", "time a training step and its parts"),
    "bench-sampling": ("bench_sampling", "time sampling with and without the key-value cache and batched guidance"),
    "bench-serve": ("bench_serve", "load a server with many requests, and compare its replies and its speed"),
    "convert": ("convert", "write a run's weights as a published checkpoint folder"),
    "doctor": ("doctor", "print versions, devices, cores, memory, the cache and free disk, and what is missing"),
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
# Modules with flags of their own, which run as if they were called by `python -m`.
DOORS = {
    "train": ("sgt_jax.main", "train, evaluate and report an experiment: --config=NAME or FILE, --workdir=DIR"),
    "study": ("sgt_jax.study", "train arms and seeds of a study, and compare them: --config=FILE, --workdir=DIR"),
    "launch": ("sgt_jax.launch", "start a training on a cluster: tpu, gke, slurm, or local for several processes here"),
}
LAUNCHERS = ("gke", "local", "slurm", "tpu")
# What people want to do -> the commands for it.
GROUPS = {
    "Try a model": ("sample", "serve"),
    "Train and compare": ("train", "study", "report"),
    "Prepare data": ("proxies", "ingest", "validate", "inspect-data", "tokenize", "mask-loss"),
    "Score": ("evaluate", "parity"),
    "Look inside": ("probe", "embed", "attention", "align", "mechanism"),
    "Move checkpoints": ("convert", "export-vae"),
    "Go large": ("plan", "launch"),
    "Measure speed": ("bench", "bench-sampling", "bench-serve"),
    "Find out what is wrong": ("doctor",),
}


def listing() -> str:
    """All commands, grouped by what people want to do."""
    whats = {name: what for name, (_, what) in (COMMANDS | DOORS).items()}
    lines = ["usage: sgt COMMAND ...      (sgt COMMAND --help explains one; sgt is python -m sgt_jax)"]
    for title, names in GROUPS.items():
        lines += ["", title, *(f"  {name:15} {whats[name]}" for name in names)]
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Runs one command; returns its exit status."""
    own = arguments is None  # this process is the command, and not somebody who calls it
    arguments = sys.argv[1:] if arguments is None else arguments
    name, *rest = arguments or ["--help"]
    if name in ("-h", "--help", "help"):
        print(listing())
        return 0
    if name == "--version":
        print(f"sgt_jax {importlib.import_module('importlib.metadata').version('sgt_jax')}")
        return 0
    if name in DOORS:
        return _open(name, rest)
    if name not in COMMANDS:
        known = [*COMMANDS, *DOORS]
        print(f"error: no command '{name}'; {nearest(name, known) or 'sgt lists them all'}", file=sys.stderr)
        return 2
    if own:
        begin_with_huge_pages()
    module = importlib.import_module(f"sgt_jax.commands.{COMMANDS[name][0]}")
    importlib.import_module("sgt_jax.parallel.compiling").compilation_cache()
    return guarded(lambda: module.main(rest))


def _open(name: str, rest: list[str]) -> int:
    """Runs a module of `DOORS` with these arguments; most of them leave by SystemExit."""
    module = DOORS[name][0]
    if name == "launch":
        kind = rest.pop(0) if rest else ""
        if kind not in LAUNCHERS:
            hint = nearest(kind, LAUNCHERS) or f"there are {', '.join(LAUNCHERS)}"
            print(
                f"error: no launcher '{kind}'; {hint}" if kind else f"error: name a launcher: {', '.join(LAUNCHERS)}",
                file=sys.stderr,
            )
            return 2
        module += f".{kind}"
    sys.argv = [f"sgt {name}", *rest]
    runpy.run_module(module, run_name="__main__")
    return 0


if __name__ == "__main__":
    sys.exit(main())
