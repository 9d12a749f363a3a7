"""Starts several processes on this machine, each with virtual CPU devices, to try out what a cluster does.

    python -m sgt_jax.launch.local -n 4 -- --config=configs/nano.py --workdir=/tmp/four

Output lines carry the number of their process, but for the first. SIGTERM and SIGINT go to all processes. If one fails, the
others get --grace seconds to notice and are then killed. The exit status is that of the first process that failed.
"""

import argparse
import os
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence

from sgt_jax.launch.shell import Parser


def commands(processes: int, devices: int, port: int, arguments: Sequence[str]) -> list[list[str]]:
    """One command per process; `arguments` are sgt_jax.main's."""
    return [
        [
            sys.executable, "-m", "sgt_jax.main", *arguments,
            "--config.platform=cpu", f"--config.cpu_devices={devices}",
            f"--coordinator=localhost:{port}", f"--processes={processes}", f"--process={i}",
        ]
        for i in range(processes)
    ]  # fmt: skip


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as found:
        found.bind(("localhost", 0))
        return found.getsockname()[1]


def _echo(number: int, stream: object) -> None:
    for line in stream:
        print(f"[{number}] {line}" if number else line, end="", flush=True)


def run(started: Sequence[Sequence[str]], grace: float) -> int:
    """Runs all commands until they end; returns 0 or the first other exit status."""
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
    children = [subprocess.Popen(command, **pipes) for command in started]
    echoes = [threading.Thread(target=_echo, args=(i, child.stdout)) for i, child in enumerate(children)]
    for echo in echoes:
        echo.start()

    def forward(number: int, _: object) -> None:
        for child in children:
            if child.poll() is None:
                child.send_signal(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, forward)
    failed, deadline = 0, float("inf")
    while any(child.poll() is None for child in children):
        for number, child in enumerate(children):
            if child.poll() and not failed:
                failed, deadline = child.returncode, time.monotonic() + grace
                print(f"process {number} ended with status {failed}", flush=True)
        if time.monotonic() > deadline:
            for child in children:
                child.kill()
        time.sleep(0.1)
    for echo in echoes:
        echo.join()
    failed = failed or next((child.returncode for child in children if child.returncode), 0)
    return failed if failed >= 0 else 128 - failed


def parser() -> argparse.ArgumentParser:
    """The options of the launcher."""
    flags = Parser(
        prog="python -m sgt_jax.launch.local",
        description=__doc__.split("\n")[0],
        epilog="Behind '--': arguments of sgt_jax.main.",
    )
    flags.add_argument("-n", "--processes", type=int, default=2)
    flags.add_argument("--devices", type=int, default=1, help="virtual devices of each process")
    flags.add_argument(
        "--grace", type=float, default=150, help="seconds until the others are killed when one has failed"
    )
    flags.add_argument("--dry-run", action="store_true", help="print every command, run none")
    flags.add_argument("arguments", nargs="*", metavar="-- ARGUMENT", help="arguments of sgt_jax.main")
    return flags


def main(arguments: Sequence[str]) -> int:
    """The command."""
    flags = parser()
    options = flags.parse_args(arguments)
    if options.processes < 1 or options.devices < 1:
        flags.error("-n and --devices must be at least 1")
    planned = commands(options.processes, options.devices, free_port(), options.arguments)
    if options.dry_run:
        for command in planned:
            print(f"+ {shlex.join(command)}")
        return 0
    # The package lies next to this folder, also when this file is run by its path.
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    return run(planned, options.grace)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
