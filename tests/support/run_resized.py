"""A child process for tests: a tiny run on eight virtual devices, and one that goes from eight to two and back to eight.

    python -m tests.support.run_resized FAMILY FOLDER

Prints a line of JSON: {"alone" and "told": {step: loss}, "stopped": the steps at which the four legs ended}.
"""

import json
import os
import signal
import sys
from pathlib import Path

LEGS = ((8, 2), (2, 4), (8, None))  # (devices, the step after which the run is asked to stop)


def main(family: str, folder: str) -> None:
    from sgt_jax.parallel.distributed import prepare_platform

    prepare_platform("cpu", 8)
    import jax

    from sgt_jax.parallel import distributed, partitioning
    from sgt_jax.reporting.metrics import read_metrics
    from sgt_jax.training import loop
    from tests.support import tiny_many

    make_mesh, at, ends = partitioning.make_mesh, distributed.StopRequest.at, [8, None]

    def ask(self, number):
        if number == ends[1]:
            os.kill(os.getpid(), signal.SIGTERM)
        return at(self, number)

    partitioning.make_mesh = lambda shape: make_mesh(shape, jax.devices()[: ends[0]])
    distributed.StopRequest.at = ask
    config = tiny_many.get_config(family)
    config.total_steps = 6
    stopped = []
    for name, legs in (("alone", LEGS[-1:]), ("told", LEGS)):
        for leg in legs:
            ends[:] = leg
            stopped.append(int(loop.train(config, Path(folder) / name).step))
    losses = {
        name: {line["step"]: line["loss"] for line in read_metrics(Path(folder) / name, kind="train")}
        for name in ("alone", "told")
    }
    print(json.dumps(losses | {"stopped": stopped}))


if __name__ == "__main__":
    main(*sys.argv[1:])
