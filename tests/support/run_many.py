"""A child process for tests: one of several that run `tiny_many`, each saying what it read and drew, one of which may die.

    python -m tests.support.run_many WORKDIR DEVICES COORDINATOR PROCESSES PROCESS SIGNAL STEP

SIGNAL (TERM, KILL or none) is what this process sends to itself after STEP. For every step a line in
WORKDIR/seen.PROCESSES.PROCESS.jsonl: {"step", "rows": {row: digest of its arrays}, "draws": digest of all draws}.
"""

import hashlib
import json
import os
import signal
import sys
from pathlib import Path


def digest(tree) -> str:
    """Of all arrays of a nested dict."""
    import jax
    import numpy as np

    found = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        found.update(jax.tree_util.keystr(path).encode())
        found.update(np.ascontiguousarray(leaf).tobytes())
    return found.hexdigest()[:16]


def row_digests(batch, rows) -> dict[str, str]:
    """Digest of every row of a host batch."""
    import jax

    return {str(row): digest(jax.tree.map(lambda x: x[i], batch)) for i, row in enumerate(rows)}  # noqa: B023


def main(workdir, devices, coordinator, processes, process, fatal, step):
    from sgt_jax import main as program
    from sgt_jax.parallel.distributed import prepare_platform
    from tests.support import tiny_many

    prepare_platform("cpu", int(devices))
    import jax

    from sgt_jax.parallel import distributed, partitioning
    from sgt_jax.training import experiment, start

    config = tiny_many.get_config()
    task = experiment.build(config)
    done = [0]
    seen = open(Path(workdir) / f"seen.{processes}.{process}.jsonl", "a", buffering=1)
    draw = jax.jit(lambda step, batch: task.model.draw(jax.random.fold_in(jax.random.key(config.seed), step), batch))
    to_devices, at = partitioning.to_devices, distributed.StopRequest.at

    def record(batch, mesh):
        placed = to_devices(batch, mesh)
        rows = row_digests(batch, partitioning.own_rows(config.data.rows, mesh))
        whole = distributed.fetch(draw(done[0], placed))
        seen.write(json.dumps({"step": done[0], "rows": rows, "draws": digest(whole)}) + "\n")
        return placed

    def ask(self, number):
        done[0] = number
        if fatal != "none" and number == int(step):
            os.kill(os.getpid(), getattr(signal, "SIG" + fatal))
        return at(self, number)

    restore = start.RunCheckpoints.restore

    def resume(self, abstract, step=None):
        state, data = restore(self, abstract, step)
        done[0] = int(state["step"])
        return state, data

    partitioning.to_devices, distributed.StopRequest.at, start.RunCheckpoints.restore = record, ask, resume
    where = dict(coordinator=coordinator, processes=int(processes), process=int(process)) if coordinator else {}
    program.flags.FLAGS(["run_many", "--config=", "--workdir=", "--stopped_status=75"])
    sys.exit(program.run(config, workdir, **where, timeout=60, heartbeat=10))


if __name__ == "__main__":
    main(*sys.argv[1:])
