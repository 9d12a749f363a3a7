"""A child process for tests: runs the tiny experiment, and kills itself where it is told to (a real SIGKILL).

    python -m tests.support.run_tiny FAMILY DIE WORKDIR READ_THREADS [WORKDIR READ_THREADS ...]

It says "== WORKDIR" before each run; several runs of one process share the time to import everything.
"""

import os
import signal
import sys
from pathlib import Path


def main(family: str, die: str, *runs_asked: str) -> None:
    """`die` is "never", "step N" (when step N is logged) or "save N" (between writing and committing that save)."""
    from sgt_jax.parallel.distributed import prepare_platform

    prepare_platform("cpu", 2)
    from sgt_jax.checkpoints import runs
    from sgt_jax.training import log as training_log
    from sgt_jax.training import loop
    from tests.support import tiny_experiment as tiny

    where, _, number = die.partition(" ")

    def kill() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    if where == "step":
        save_and_go_on = runs.RunCheckpoints.save

        def save_now(self, step, state, data_state):
            # The save before the kill must have had its time, as it has in a run whose steps take seconds.
            save_and_go_on(self, step, state, data_state)
            self.wait()

        runs.RunCheckpoints.save = save_now
        log = training_log.RunLog.scalars

        def scalars(self, step, values, kind="train"):
            log(self, step, values, kind)
            if step == int(number):
                kill()

        training_log.RunLog.scalars = scalars
    if where == "save":
        save = runs.RunCheckpoints.save

        def dying_save(self, step, state, data_state):
            if step == int(number):
                self.wait()  # the save before this one commits by the same renames
                # The commit is a rename: die when it is asked for, with everything else written.
                os.rename = lambda *a, **k: kill()
                os.replace = lambda *a, **k: kill()
            save(self, step, state, data_state)
            if step == int(number):
                self.wait()

        runs.RunCheckpoints.save = dying_save

    import jax
    import numpy as np

    for workdir, read_threads in zip(runs_asked[::2], runs_asked[1::2], strict=True):
        print(f"== {workdir}", flush=True)
        config = tiny.FAMILIES[family]()
        config.data.read_threads = int(read_threads)
        final = loop.train(config, workdir)
        leaves = jax.tree_util.tree_leaves_with_path(final._asdict())
        np.savez(Path(workdir) / "final.npz", **{jax.tree_util.keystr(p): np.asarray(x) for p, x in leaves})


if __name__ == "__main__":
    main(*sys.argv[1:])
