"""Runs on GPUs under Slurm: submits a job that saves before its time limit or a preemption, and queues itself again.

    python -m sgt_jax.launch.slurm submit sgt-7b --nodes=4 --gpus=8 --time=24:00:00 --python=/path/to/venv/bin/python \\
        -- --config=configs/bagel_7b_sgt.py --workdir=/shared/runs/sgt-7b

One process per GPU; JAX reads the rest from Slurm's environment. The work directory must be shared by all nodes.
"""

import argparse
import os
import shlex
from collections.abc import Sequence

from sgt_jax.launch.shell import (
    STOPPED,
    Mount,
    Shell,
    base_parser,
    check_train_arguments,
    main,
    mount_commands,
    name,
    split_arguments,
    train_command,
)


def script(options: argparse.Namespace) -> str:
    """The batch script."""
    settings = {
        "job-name": options.name,
        "nodes": options.nodes,
        "ntasks-per-node": options.gpus,
        # Not --gpus-per-task: every process must see all GPUs of its node; JAX takes the one with the process's number.
        "gpus-per-node": options.gpus,
        "cpus-per-task": options.cpus,
        "time": options.time,
        "output": options.output,
        "open-mode": "append",
        # Signals the processes, not this script, in time to save.
        "signal": f"TERM@{options.grace}",
    }
    optional = {"partition": options.partition, "account": options.account, "qos": options.qos}
    settings |= {key: value for key, value in optional.items() if value}
    lines = ["#!/bin/bash", *(f"#SBATCH --{key}={value}" for key, value in settings.items()), "#SBATCH --requeue", ""]
    lines += [f"cd {shlex.quote(os.getcwd())}"]
    for mount in options.mount:
        inner = " && ".join(mount_commands(*mount, sudo=False))
        lines.append(f"srun --ntasks-per-node=1 bash -c {shlex.quote(inner)} || exit 1")
    lines += [
        f"srun --kill-on-bad-exit=1 {shlex.join(train_command(options.arguments, options.python))}",
        "status=$?",
        "# The run was told to stop and has saved: queue it again, unless the job was cancelled meanwhile.",
        f'if [ $status -eq {STOPPED} ] && [ "$(squeue -h -j $SLURM_JOB_ID -o %T)" = RUNNING ]; then',
        "  scontrol requeue $SLURM_JOB_ID",
        "fi",
        "exit $status",
    ]
    return "\n".join(lines) + "\n"


def parser() -> argparse.ArgumentParser:
    """The options of the launcher."""
    flags = base_parser("slurm", __doc__.split("\n")[0])
    flags.add_argument("command", choices=("submit", "status", "cancel"))
    flags.add_argument("name", type=name, help="name of the job")
    flags.add_argument("--nodes", type=int, default=1)
    flags.add_argument("--gpus", type=int, default=8, help="per node")
    flags.add_argument("--cpus", type=int, default=8, help="per process")
    flags.add_argument("--time", default="24:00:00", help="limit, as Slurm writes it")
    flags.add_argument(
        "--grace", type=int, default=300, help="seconds before the limit at which the run saves and stops"
    )
    flags.add_argument("--partition")
    flags.add_argument("--account")
    flags.add_argument("--qos")
    flags.add_argument("--output", default="%x-%j.log", help="where the job writes, with Slurm's patterns")
    flags.add_argument("--python", default="python3", help="interpreter of an environment with the extra [cuda13]")
    flags.add_argument("--mount", action=Mount, default=[], metavar="gs://BUCKET/DIR=/POINT", help="data, read-only")
    return flags


def run(arguments: Sequence[str]) -> int:
    """The command."""
    own, train = split_arguments(arguments)
    options = parser().parse_args(own)
    options.arguments = train
    shell = Shell(options.dry_run)
    if options.command == "submit":
        check_train_arguments(train)
        shell.must(["sbatch"], stdin=script(options))
    elif options.command == "status":
        shell.must(["squeue", "--me", f"--name={options.name}"])
    else:
        shell.must(["scancel", "--me", f"--name={options.name}"])
    return 0


if __name__ == "__main__":
    main(run)
