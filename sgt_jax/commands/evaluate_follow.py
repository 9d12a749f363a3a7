"""The part of `evaluate` that follows a run: every new checkpoint is scored, and the scores go into the run's log."""

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sgt_jax.errors import ConfigError

FOLDER = "benchmarks"  # below the work directory: STEP/NAME/


def add_options(flags: argparse.ArgumentParser) -> None:
    """Its options."""
    add = flags.add_argument
    add("--follow", type=Path, metavar="WORKDIR", help="score every new checkpoint of this run, until its last step")
    add("--poll", type=float, default=30.0, metavar="SECONDS", help="how often to look for one")


def steps_in(workdir: Path) -> list[int]:
    """The complete checkpoints of a run, in order."""
    folder = workdir / "checkpoints"
    return sorted(int(p.name) for p in folder.iterdir() if p.name.isdigit()) if folder.is_dir() else []


def last_step(workdir: Path) -> int:
    """The step at which the run will end. Raises ConfigError."""
    try:
        return int(json.loads((workdir / "config.json").read_text("utf-8"))["total_steps"])
    except (OSError, ValueError, KeyError, TypeError):
        raise ConfigError(f"{workdir}: is not the work directory of a run; give its --workdir") from None


def follow(workdir: Path, names: list[str], poll: float, score: Callable[[int, Path, str], dict[str, Any]]) -> None:
    """Scores checkpoints as they come, until the last step of the run.

    Args:
      score: (step, folder for its results, benchmark) -> scores. Raises FileNotFoundError for a checkpoint that the run
        has removed meanwhile.
    """
    from sgt_jax.training import late_scores

    last, done = last_step(workdir), set()
    while True:
        for step in [step for step in steps_in(workdir) if step not in done]:
            values: dict[str, float] = {}
            try:
                for name in names:
                    found = score(step, workdir / FOLDER / f"{step:07d}", name)
                    values |= {f"{name}/{key}": value for key, value in found["scores"].items()}
            except FileNotFoundError:
                print(f"step {step}: the run removed this checkpoint before it was scored", file=sys.stderr)
            else:
                late_scores.append(workdir, step, values)
                print(f"step {step}: scored {', '.join(names)}", flush=True)
            done.add(step)
            if step >= last:
                return
        time.sleep(poll)


def run(options: argparse.Namespace, names: list[str], model: Any, evaluate: Callable[..., dict[str, Any]]) -> None:
    """Follows the run of `--follow`.

    Args:
      model: (options) -> a loaded `commands.evaluate.Model`; made once, later checkpoints only bring parameters.
      evaluate: (options, name, model) -> the scores of one benchmark.
    """
    import jax

    from sgt_jax.inference import load

    workdir, loaded = options.follow, []
    last_step(workdir)

    def score(step: int, out: Path, name: str) -> dict[str, Any]:
        mine = argparse.Namespace(**{**vars(options), "checkpoint": str(workdir), "out": out, "model": workdir.name})
        if not loaded:
            loaded.append((model(mine), None))
        subject, known = loaded[0]
        if known != step:
            settings = json.loads((workdir / "config.json").read_text("utf-8"))
            dtype = jax.tree.leaves(subject.params)[0].dtype
            params, _ = load.params_of_run(workdir, settings, options.weights, dtype, step)
            subject.params, subject.digest = jax.tree.map(jax.numpy.asarray, params), f"step {step}, {options.weights}"
            loaded[0] = subject, step
        return evaluate(mine, name, subject)

    follow(workdir, names, options.poll, score)
