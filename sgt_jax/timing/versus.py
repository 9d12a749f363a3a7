"""Times one thing in two versions of sgt_jax, in turns: this one, and a checkout of another.

    git worktree add ../before d58c5c3
    python -m sgt_jax.timing.versus step configs/study/first_bed.py --of-before configs/nano_sgt.py --before ../before

Each version runs in a process of its own (`versus_worker.py`), with its own interpreter if --python names one. One is asked,
then the other, A B A B ..., each --times times in a row; what counts is processor time of all threads, and the ratio of two
rounds that follow each other, so that other work on the machine disturbs little. Beside the times stand numbers that show
that both computed the same. With --before . this version is compared with itself, where --change says what the first side
does otherwise.

    step FILE        whole training steps: of a config (FILE.py), or of the model in --model on a recorded pack (FILE.npz)
    compile FILE     tracing, lowering and compiling such a step, without any cache
    attention [FILE] one layer's attention, forward and backward, on a pack, or on one made of --slots and --samples
    muon FILE.py     the optimizer's update of the matrices in a config's model
    load [FOLDER]    a published folder into float32 parameters; without FOLDER one of 1.7 GB is made
    sample [FOLDER]  a picture from text, or an edit of one; without FOLDER with a model of 47 M parameters that is made
    run FILE.py      a whole run by `sgt_jax.main`, from start to report, with nothing compiled before; --steps cuts it short
"""

import argparse
import functools
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import sgt_jax
from sgt_jax import errors
from sgt_jax.errors import ConfigError
from sgt_jax.parallel import progress
from sgt_jax.timing import rounds

HERE = Path(sgt_jax.__file__).resolve().parents[1]
WORKER = Path(__file__).with_name("versus_worker.py")
NEEDS_FILE = {"step": ".py .npz", "compile": ".py .npz", "muon": ".py", "run": ".py"}
MADE = {
    "load": ("850m", "bfloat16"),
    "sample": ("47m", "float32"),
    "step": ("47m", "float32"),
    "compile": ("47m", "float32"),
}
LAST_LINES = 12  # of what a process said before it ended


class Worker:
    """A process that does one thing on command; use it as a context."""

    def __init__(self, name: str, checkout: Path, python: str, options: Mapping[str, Any]) -> None:
        self.name, self._log = name, tempfile.TemporaryFile("w+")
        # -P: the folder of the worker's file, which has other modules of ours, is no place to import from.
        command = [python, "-P", str(WORKER), json.dumps({**options, "checkout": str(checkout)})]
        self._process = subprocess.Popen(
            command, cwd=checkout, env=os.environ | {"PYTHONPATH": str(checkout)}, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log,
        )  # fmt: skip

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *raised: object) -> None:
        self._process.stdin.close()
        self._process.stdout.close()
        if raised[0] is not None:
            self._process.terminate()
        self._process.wait()
        self._log.close()

    def read(self) -> dict[str, Any]:
        """The next answer.

        Raises:
          ConfigError: the process has ended; its last words are printed.
        """
        line = self._process.stdout.readline()
        if line:
            return json.loads(line)
        self._process.wait()
        self._log.seek(0)
        print("".join(self._log.readlines()[-LAST_LINES:]), end="", file=sys.stderr)
        raise ConfigError(f"{self.name}: its process ended with status {self._process.returncode}, as it says above")

    def ask(self) -> rounds.Round:
        """Does the thing once."""
        try:
            self._process.stdin.write("once\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # `read` says why
        return rounds.Round(**self.read())


def check(options: argparse.Namespace) -> None:
    """Raises ConfigError, in one line, where something that the options name is not there."""
    if not (options.before / "sgt_jax" / "__init__.py").is_file():
        advice = f"make one: git worktree add {options.before} d58c5c3"
        raise ConfigError(f"--before {options.before}: no checkout of sgt_jax is there; {advice}")
    for name, python in (("--python", options.python), ("this interpreter", sys.executable)):
        if not os.access(python, os.X_OK):
            raise ConfigError(
                f"{name} {python}: no interpreter is there; name the bin/python of an environment for --before"
            )
    kinds = NEEDS_FILE.get(options.what, "").split()
    if kinds and Path(options.of or "").suffix not in kinds:
        raise ConfigError(
            f"{options.what} needs a file that ends in {' or '.join(kinds)}, and not '{options.of or ''}'"
        )
    if options.of and not options.of.startswith("package:") and not Path(options.of).exists():
        raise ConfigError(f"{options.of}: is not there{errors.beside(options.of)}")
    for name in ("rounds", "times"):
        if getattr(options, name) < 1:
            raise ConfigError(f"--{name} {getattr(options, name)}: at least 1")


def prepared(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """What both workers are told; makes in `folder` what the options do not name. Configs are each version's own."""
    told = {
        name: value
        for name, value in vars(options).items()
        if name not in ("before", "of_before", "python", "backends", "change", "rounds")
    }
    told["of"], told["steps"] = options.of, options.steps or (20 if options.what == "sample" else 0)
    if options.of and not options.of.startswith("package:") and not options.of.endswith(".py"):
        told["of"] = os.path.abspath(options.of)
    if options.what == "attention":
        told["of"] = str(folder / "slots.npz")
        np.savez(told["of"], **_slots(options))
    pack = (options.of or "").endswith(".npz") and options.what in ("step", "compile")
    if options.model:
        told["model"] = os.path.abspath(options.model)
    elif pack or (options.what in ("load", "sample") and not options.of):
        from sgt_jax.timing import published

        size, dtype = MADE[options.what]
        published.write(folder / "model", options.size or size, dtype)
        told["model" if pack else "of"] = str(folder / "model")
    return told


def _slots(options: argparse.Namespace) -> dict[str, np.ndarray]:
    """Sample, split, order, position and mode [1, slots] of what attention is timed on."""
    from sgt_jax.timing import attention

    info = attention.read_pack(options.of) if options.of else attention.pack(options.slots, options.samples)
    return {name: np.asarray(x) for name, x in info._asdict().items()}


def compare(options: argparse.Namespace) -> str:
    """Runs both versions in turns; the table."""
    uncounted = 0 if options.what == "run" else 1  # every run begins from nothing
    with tempfile.TemporaryDirectory() as folder:
        told = prepared(options, Path(folder))
        before = options.before.resolve()
        there = {"of": options.of_before} if options.of_before else {}
        sides = {
            "before": (before, options.python, {**there, "attention": options.backends[0], "changes": options.change}),
            "this": (HERE, sys.executable, {"attention": options.backends[1], "changes": []}),
        }
        workers = {name: Worker(name, place, python, told | own) for name, (place, python, own) in sides.items()}
        with workers["before"], workers["this"]:
            for worker in workers.values():
                worker.read()  # one after the other would take as long: both have begun
            asked = {name: worker.ask for name, worker in workers.items()}
            found = rounds.alternate(asked, options.rounds, uncounted)
    what = [options.what, options.of or "", options.request if options.what == "sample" else ""]
    if options.what == "attention":
        what[2] = f"{options.backends[0]} before, {options.backends[1]} now"
    what += [f"({options.times} times a round)"] if options.times > 1 else []
    return rounds.report(" ".join(filter(None, what)), found, uncounted)


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("what", choices=("step", "compile", "attention", "muon", "load", "sample", "run"))
    flags.add_argument("of", nargs="?", help="a file or folder; a config is taken from each version's own checkout")
    flags.add_argument("--before", type=Path, required=True, metavar="CHECKOUT", help="of the version to compare with")
    flags.add_argument("--of-before", metavar="FILE", help="the config of the other version, if its name was another there")
    flags.add_argument("--python", default=sys.executable, help="its interpreter; by default this one")
    flags.add_argument(
        "--change", nargs="+", default=[], metavar="FIELD=VALUE", help="of the config, on the side of --before alone"
    )
    flags.add_argument("--rounds", type=int, default=7)
    flags.add_argument("--times", type=int, default=1, help="that a round does it in a row; its figure is their mean")
    flags.add_argument("--cores", type=int, default=1, help="that each process may use")
    flags.add_argument("--devices", type=int, default=0, help="virtual devices; 0: as the config says")
    flags.add_argument("--model", metavar="FOLDER", help="published, for a pack; by default one is made")
    flags.add_argument("--size", choices=("47m", "850m", "tiny"), help="of a model that is made")
    flags.add_argument("--remat", default="full", help="for a pack: none, full or dots")
    both = dict(nargs=2, default=("xla", "blockwise"), metavar=("BEFORE", "THIS"))
    flags.add_argument("--backends", **both, help="of attention, for a pack; a config says its own")
    flags.add_argument("--block", type=int, default=512, help="largest block of blockwise attention")
    flags.add_argument("--slots", type=int, default=1105)
    flags.add_argument("--samples", type=int, default=5)
    flags.add_argument("--heads", type=int, default=8)
    flags.add_argument("--kv-heads", type=int, default=2)
    flags.add_argument("--head-size", dest="head_size", type=int, default=64)
    flags.add_argument("--request", default="t2i", choices=("t2i", "edit"), help="of sample")
    flags.add_argument("--steps", type=int, help="of sample (20 by default) or of a run (all that its config says)")
    flags.add_argument("--side", type=int, default=256, help="of a sampled picture, in pixels")
    return flags


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    options = parser().parse_args(arguments)
    return errors.guarded(functools.partial(_main, options))


def _main(options: argparse.Namespace) -> None:
    check(options)
    with progress.shown("starting both versions"):
        table = compare(options)
    print(table, flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
