"""A tiny run, cut off at step 10 of 20: made once by an old commit, and resumed by today's code in a test for ever.

    git worktree add ../before d58c5c3   # and an environment with that checkout installed
    python -m tests.support.old_run --repository ../before --python ../before/.venv/bin/python tests/golden/old_run

The child process is this file itself, and runs in a checkout of that commit as well as here: it knows both spellings.
"""

import argparse
import hashlib
import importlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

STEPS, CUT = 20, 10
# The flags make compilation eight times quicker; they decide bits, so they are the same whenever this run goes on.
QUICK = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
if importlib.metadata.version("jaxlib").startswith("0.10."):  # XLA ends the process at a flag that it does not know
    QUICK += " --xla_cpu_use_fusion_emitters=false"
CHILD_ENVIRONMENT = {"JAX_PLATFORMS": "cpu", "PJRT_NPROC": "32"}


def config():
    """The configs/nano.py of the checkout that this process runs in, smaller than any other: 5,000 parameters."""
    spec = importlib.util.spec_from_file_location("nano", Path.cwd() / "configs" / "nano.py")
    nano = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(nano)
    c = nano.get_config()
    c.name = "old run"
    c.total_steps = STEPS
    c.vae_from = ""
    c.model.llm.update(
        hidden_size=4, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1
    )
    c.model.vit.update(hidden_size=4, intermediate_size=8, num_hidden_layers=2, num_attention_heads=2)
    c.model.vae = dict(ch=2, ch_mult=(1, 1), num_res_blocks=0, z_channels=1, norm_groups=1)
    c.model.latent_patch_size = 4
    c.model.update(attention="xla", attention_block=512)  # what configs/nano.py said when the run was made
    c.cpu_devices = 2  # likewise
    for source in c.data.sources.values():
        source.num = 40
    c.data.rows = 2
    c.data.prefetch = 2
    c.data.pool_size = 4
    c.schedule = dict(name="warmup_stable_decay", warmup_steps=2, decay_fraction=0.4, final_fraction=0.0)
    c.log_every = 1
    c.evaluate_every = 1000
    c.evaluators = {}
    c.checkpoint.every = CUT
    c.report = False
    return c


def environment() -> dict[str, object]:
    """What decides the last bits of a step besides our code: equal here means equal bits."""
    cpu = platform.machine()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines()
        facts = dict(line.replace("\t", "").split(":", 1) for line in lines if ":" in line)
        cpu = " ".join(str(facts.get(key, "")).strip() for key in ("vendor_id", "cpu family", "model", "flags"))
    versions = {name: importlib.metadata.version(name) for name in ("jax", "jaxlib", "flax", "optax", "numpy")}
    return versions | {"cpu": hashlib.sha256(cpu.encode()).hexdigest()[:16]}


def _module(*spellings: str):
    for name in spellings:
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            if not name.startswith(str(error.name)):
                raise
    raise ModuleNotFoundError(spellings)


def child(workdir: Path, seen: Path, kill: bool) -> None:
    """Runs or resumes in `workdir`; with `kill` a SIGKILL follows the save of step 10. Writes to `seen`, names left out:

    state.npz the state at step 10, as saved or as restored; batch_N.npz the host's batch of step N, from 11 on.
    """
    _module("sgt_jax.parallel.distributed", "sgt_jax.distributed").prepare_platform("cpu", 2)
    runs = _module("sgt_jax.checkpoints.runs", "sgt_jax.checkpoints.training")
    partitioning = _module("sgt_jax.parallel.partitioning", "sgt_jax.partitioning")
    loop = _module("sgt_jax.training.loop", "sgt_jax.train")
    import jax
    import numpy as np

    def keep(name, tree):
        np.savez(seen / f"{name}.npz", *map(np.asarray, jax.tree.leaves(tree)))

    save, restore, to_devices = runs.RunCheckpoints.save, runs.RunCheckpoints.restore, partitioning.to_devices
    at = {"step": 0}

    def watched_save(self, step, state, data_state):
        save(self, step, state, data_state)
        if step == CUT:
            keep("state", state)
            if kill:
                self.wait()
                os.kill(os.getpid(), signal.SIGKILL)

    def watched_restore(self, *arguments, **options):
        found = restore(self, *arguments, **options)
        keep("state", found[0])
        at["step"] = CUT
        return found

    def watched_to_devices(batch, mesh):
        at["step"] += 1
        if at["step"] > CUT:
            keep(f"batch_{at['step']}", batch)
        return to_devices(batch, mesh)

    runs.RunCheckpoints.save, runs.RunCheckpoints.restore = watched_save, watched_restore
    partitioning.to_devices = watched_to_devices
    loop.train(config(), str(workdir))


def start_child(repository: Path, python: str, workdir: Path, seen: Path, kill: bool = False, flags: str = "") -> None:
    """Runs `child` in a process, in this checkout and with this interpreter; `flags` are more flags for XLA."""
    seen.mkdir(parents=True)
    command = [python, str(Path(__file__).absolute()), "--child", str(workdir.absolute()), str(seen.absolute())]
    variables = {**os.environ, **CHILD_ENVIRONMENT, "XLA_FLAGS": f"{QUICK} {flags}".strip()}
    done = subprocess.run(
        [*command, *(["--kill"] if kill else [])], cwd=repository, env=variables, capture_output=True, text=True
    )
    if done.returncode != (-signal.SIGKILL if kill else 0):
        raise RuntimeError(done.stdout[-2000:] + done.stderr[-4000:])


def nameless_digest(path: Path) -> str:
    """SHA-256 of the arrays of an npz file, whatever they are called and in whatever order they come."""
    import numpy as np

    arrays = (np.ascontiguousarray(array) for array in np.load(path).values())
    found = sorted(hashlib.sha256(f"{a.shape} {a.dtype}".encode() + a.tobytes()).hexdigest() for a in arrays)
    return hashlib.sha256("".join(found).encode()).hexdigest()


def digests(seen: Path) -> dict[str, str]:
    """{name: digest} of all that a child wrote."""
    return {path.stem: nameless_digest(path) for path in sorted(seen.iterdir())}


def as_vector(params: dict):
    """All parameters of a nested dict one after the other, by sorted name."""
    import jax
    import numpy as np

    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(params)])


def make(repository: Path, python: str, out: Path) -> None:
    """Writes the folder: run.tar.xz (the work directory cut off), final.npy (the whole run's parameters), expected.json."""
    import numpy as np

    from tests.support.fingerprint import digest, saved_params

    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        start_child(repository, python, work / "whole", work / "seen")
        start_child(repository, python, work / "run", work / "cut", kill=True)
        if digests(work / "cut")["state"] != digests(work / "seen")["state"]:
            raise RuntimeError("two runs differ at the step of the cut")
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir(parents=True)
        with tarfile.open(out / "run.tar.xz", "w:xz") as archive:
            archive.add(work / "run", "run", filter=lambda one: None if "events." in one.name else one)
        params = saved_params(work / "whole")
        np.save(out / "final.npy", as_vector(params))
        lines = (work / "whole" / "metrics.jsonl").read_text().splitlines()
        commit = subprocess.check_output(["git", "rev-parse", "HEAD"], cwd=repository, text=True).strip()
        expected = {
            "commit": commit,
            "environment": environment(),
            "params": digest(params),
            "losses": {line["step"]: line["loss"] for line in map(json.loads, lines) if "loss" in line},
            "seen": digests(work / "seen"),
        }
        (out / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("out", type=Path, nargs="?", help="folder that is written")
    parser.add_argument("--repository", type=Path, help="a checkout of the old commit")
    parser.add_argument("--python", default=sys.executable, help="the interpreter of its environment")
    parser.add_argument("--child", type=Path, nargs=2, metavar=("WORKDIR", "SEEN"), help=argparse.SUPPRESS)
    parser.add_argument("--kill", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(*options.child, kill=options.kill)
    else:
        make(options.repository, options.python, options.out)


if __name__ == "__main__":
    main()
