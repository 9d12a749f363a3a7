"""A child process for tests: trains adapters of the golden model on so many devices, until a step.

    python -m tests.support.run_adapter WORKDIR DEVICES STOP [DEVICES STOP ...]

One step's number after another, each pair in a process of its own: the first number of devices is this process's.
"""

import os
import signal
import subprocess
import sys

from tests.support import paths
from tests.support import tiny_experiment as tiny

CKPT = paths.GOLDEN / "bagel" / "ckpt"
STEPS = 6


def config(base=CKPT, **changes):
    """Six steps of adapters of both experts with dropout, saved every second step; `changes` are of config.adapter."""
    c = tiny.config(total_steps=STEPS)
    c.init_from = str(base)
    c.model.scan_layers = True
    # The golden model sees patches of 4 pixels and paints latent tokens of 4 pixels.
    c.data.vit_size = dict(stride=4, min_size=32, max_size=32)
    c.data.budgets = {"und": 384, "vit": 192, "gen": 192, "labels": 24, "pixels:32x32": 3}
    c.data.rows = 8
    c.checkpoint.every, c.checkpoint.keep = 2, 10
    c.adapter.update(dict(rank=2, targets="both", dropout=0.1) | changes)
    return c


def main(workdir: str, devices: str, stop: str, *more: str) -> None:
    """Trains from the newest checkpoint to step `stop`, which ends as a run ends that is asked to stop."""
    from sgt_jax.parallel.distributed import prepare_platform

    prepare_platform("cpu", int(devices))
    from sgt_jax.training import log, loop

    scalars = log.RunLog.scalars

    def stopping(self, step, values, kind="train"):
        scalars(self, step, values, kind)
        if step == int(stop) - 1:  # asked during a step, a run stops after the next
            os.kill(os.getpid(), signal.SIGTERM)

    log.RunLog.scalars = stopping
    c = config()
    c.mesh.update(data=-1, fsdp=2)
    loop.train(c, workdir)
    if more:
        subprocess.run([sys.executable, "-m", "tests.support.run_adapter", workdir, *more], check=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
