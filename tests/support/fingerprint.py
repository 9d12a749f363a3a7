"""One hash of all parameters after some steps of configs/study/first_bed.py: does a change of the code change a number?

    python -m tests.support.fingerprint --steps 20
    python -m tests.support.fingerprint --steps 20 --repository ../before --python ../before/.venv/bin/python

A process of its own trains in that checkout with that interpreter, so two versions can be compared on one machine. In an old
checkout these settings are those of configs/nano_sgt.py.
Nothing of sgt_jax is imported here: the checkpoint is read with Orbax alone.
"""

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp

from tests.support.paths import REPOSITORY

CONFIG = """
import importlib.util

def get_config():
    spec = importlib.util.spec_from_file_location("first_bed", {file!r})
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    c = module.get_config()
    c.total_steps, c.seed = {steps}, {seed}
    c.evaluators, c.evaluate_at_start, c.report = {{}}, False, False
    c.checkpoint.every = {steps}
    return c
"""


def digest(tree: object) -> str:
    """SHA-256 of all leaves of a nested dict: paths, shapes, dtypes and bytes."""
    found = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        array = np.ascontiguousarray(leaf)
        found.update(f"{jax.tree_util.keystr(path)} {array.shape} {array.dtype}".encode())
        found.update(array.tobytes())
    return found.hexdigest()


def saved_params(workdir: Path, step: int | None = None) -> dict:
    """The parameters of a checkpoint in a work directory, the newest by default, as NumPy arrays."""
    folder = Path(workdir).absolute() / "checkpoints"
    newest = max((p.name for p in folder.iterdir() if p.name.isdigit()), key=int)
    path = folder / (newest if step is None else str(step)) / "state"
    with ocp.PyTreeCheckpointer() as reader:
        metadata = reader.metadata(path).item_metadata.tree
        arguments = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), metadata)
        return reader.restore(path, restore_args=arguments)["params"]


def fingerprint(steps: int, seed: int, repository: Path, python: str) -> str:
    """Trains in a process of its own; returns the hash."""
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "cut_short.py"
        files = [repository.absolute() / "configs" / name for name in ("study/first_bed.py", "nano_sgt.py")]
        file = next(file for file in files if file.exists())
        config.write_text(CONFIG.format(file=str(file), steps=steps, seed=seed))
        command = [python, "-m", "sgt_jax.main", f"--config={config}", f"--workdir={folder}/run"]
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
        done = subprocess.run(command, cwd=repository, env=environment, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(done.stdout[-2000:] + done.stderr[-4000:])
        return digest(saved_params(Path(folder) / "run"))


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--repository", type=Path, default=REPOSITORY, help="a checkout")
    parser.add_argument("--python", default=sys.executable, help="the interpreter of that checkout's environment")
    options = parser.parse_args(arguments)
    print(fingerprint(options.steps, options.seed, options.repository, options.python))


if __name__ == "__main__":
    main(sys.argv[1:])
