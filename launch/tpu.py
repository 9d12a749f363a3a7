"""Runs on Cloud TPU slices through queued resources: create, install, run on all workers, retry after preemption, delete.

    python -m sgt_jax.launch.tpu up sgt-7b --project=P --zone=Z --accelerator-type=v5p-16 --spot \\
        --mount=gs://BUCKET/data=/data -- --config=configs/bagel_7b_sgt.py --workdir=gs://BUCKET/runs/sgt-7b

`up` does everything: it requests the slice and waits for it, installs this repository on every worker, and trains. When the
slice is preempted it requests a new one, and the run continues from its last checkpoint. The other commands do one of these
steps each. Workers find each other through JAX, without addresses.
"""

import argparse
import os
import shlex
import tempfile
import time
from collections.abc import Sequence

from sgt_jax.launch.shell import (
    LaunchError,
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

FOLDER = "sgt_jax_source"
READY = "ACTIVE"
WAITING = ("CREATING", "ACCEPTED", "PROVISIONING", "WAITING_FOR_RESOURCES")
# Software images with the drivers of each generation.
RUNTIMES = {"v5litepod": "v2-alpha-tpuv5-lite", "v5p": "v2-alpha-tpuv5", "v6e": "v2-alpha-tpuv6e"}


class Slice:
    """One slice by its name."""

    def __init__(self, shell: Shell, options: argparse.Namespace) -> None:
        self.shell, self.options = shell, options

    def _gcloud(self, *words: str) -> list[str]:
        where = [f"--project={self.options.project}", f"--zone={self.options.zone}"]
        return ["gcloud", "compute", "tpus", *words, *where]

    def state(self, dry_answer: str = READY) -> str:
        """State of the queued resource, "" if there is none."""
        words = ("queued-resources", "describe", self.options.name, "--format=value(state.state)")
        return self.shell.ask(self._gcloud(*words), dry_answer) or ""

    def create(self) -> None:
        """Requests the slice; it is granted when one is free."""
        options = self.options
        if not options.accelerator_type:
            raise LaunchError("--accelerator-type is needed to create a slice (v5p-16, v6e-16, v5litepod-32, ...)")
        generation = options.accelerator_type.split("-")[0]
        runtime = options.runtime_version or RUNTIMES.get(generation)
        if not runtime:
            raise LaunchError(f"no runtime is known for {generation}; give --runtime-version")
        extra = ["--spot"] if options.spot else []
        extra += ["--reserved"] if options.reserved else []
        extra += [f"--service-account={options.service_account}"] if options.service_account else []
        self.shell.must(
            self._gcloud(
                "queued-resources", "create", options.name, f"--node-id={options.name}",
                f"--accelerator-type={options.accelerator_type}", f"--runtime-version={runtime}", *extra,
            )
        )  # fmt: skip

    def wait(self) -> None:
        """Returns when the slice is there.

        Raises:
          LaunchError: it will not come.
        """
        shown = ""
        while (state := self.state()) != READY:
            if state not in WAITING:
                raise LaunchError(f"slice {self.options.name} is {state or 'absent'}; see 'status', then 'delete' it")
            if state != shown:
                print(f"slice {self.options.name}: {state}", flush=True)
            shown = state
            time.sleep(self.options.poll)

    def install(self) -> None:
        """Copies the committed state of this repository to all workers, installs it there and mounts the data."""
        with tempfile.TemporaryDirectory() as folder:
            archive = os.path.join(folder, "source.tar.gz")
            self.shell.must(["git", "archive", "--format=tar.gz", f"--output={archive}", "HEAD"])
            self.shell.must(
                self._gcloud("tpu-vm", "scp", archive, f"{self.options.name}:sgt_jax.tar.gz", "--worker=all")
            )
        steps = [
            f"rm -rf {FOLDER} && mkdir {FOLDER} && tar -xzf sgt_jax.tar.gz -C {FOLDER}",
            f"cd {FOLDER}",
            # Images bring an older Python; uv brings the one that is needed.
            "curl -LsSf https://astral.sh/uv/install.sh | sh",
            "~/.local/bin/uv venv --python 3.11 .venv",
            "~/.local/bin/uv pip install -q --python .venv/bin/python '.[tpu]'",
        ]
        if self.options.mount:
            steps.append("{ command -v gcsfuse || { " + " && ".join(_GCSFUSE) + "; }; }")
        for mount in self.options.mount:
            steps += mount_commands(*mount)
        self.ssh(" && ".join(steps), what="installing")

    def train(self) -> int:
        """Trains on all workers; returns the exit status."""
        command = shlex.join(train_command(self.options.arguments, ".venv/bin/python"))
        # Two trainings cannot share the chips: a worker whose connection broke is waited for until it has gone.
        return self.shell.run(self._ssh(f"cd {FOLDER} && exec flock -w 300 ../sgt_jax.lock {command}"))

    def ssh(self, command: str, what: str) -> None:
        """Runs a shell command on all workers, or LaunchError."""
        if status := self.shell.run(self._ssh(command)):
            raise LaunchError(f"{what} failed on a worker of {self.options.name} (status {status})")

    def _ssh(self, command: str) -> list[str]:
        return self._gcloud("tpu-vm", "ssh", self.options.name, "--worker=all", f"--command={command}")

    def delete(self) -> None:
        """Gives the slice back, or takes back the request for it."""
        self.shell.must(self._gcloud("queued-resources", "delete", self.options.name, "--force", "--quiet"))

    def up(self) -> int:
        """Trains to the end, on as many slices one after the other as it takes."""
        failures = 0
        while True:
            state = self.state(dry_answer="")
            if state and state != READY and state not in WAITING:
                print(f"slice {self.options.name} is {state}: requesting a new one", flush=True)
                self.delete()
                state = ""
            if not state:
                self.create()
            self.wait()
            self.install()
            status = self.train()
            if status == 0:
                break
            if (state := self.state()) == READY:
                # The slice is still there, so the program itself ended: a maintenance event, or an error of its own.
                failures += 1
                print(
                    f"the training ended with status {status} though the slice is there ({failures} in a row)",
                    flush=True,
                )
                if failures > self.options.retries:
                    raise LaunchError(f"the training failed {failures} times in a row; its own message stands above")
            else:
                failures = 0
        if self.options.delete:
            self.delete()
        return 0


_GCSFUSE = (
    "echo deb https://packages.cloud.google.com/apt gcsfuse-$(lsb_release -c -s) main"
    " | sudo tee /etc/apt/sources.list.d/gcsfuse.list",
    "curl https://packages.cloud.google.com/apt/doc/apt-key.gpg | sudo apt-key add -",
    "sudo apt-get update -q && sudo apt-get install -qy gcsfuse",
)


def parser() -> argparse.ArgumentParser:
    """The options of the launcher."""
    flags = base_parser("tpu", __doc__.split("\n")[0])
    flags.add_argument("command", choices=("up", "create", "install", "run", "status", "delete"))
    flags.add_argument("name", type=name, help="name of the slice")
    flags.add_argument("--project", required=True)
    flags.add_argument("--zone", required=True)
    flags.add_argument("--accelerator-type", help="v5p-16 (counts cores), v6e-16, v5litepod-32, ...")
    flags.add_argument("--runtime-version", help="software image; by default the generation's")
    flags.add_argument("--spot", action="store_true", help="cheaper, but may be preempted at any time")
    flags.add_argument("--reserved", action="store_true", help="use a reservation")
    flags.add_argument("--service-account")
    flags.add_argument("--mount", action=Mount, default=[], metavar="gs://BUCKET/DIR=/POINT", help="data, read-only")
    flags.add_argument(
        "--retries", type=int, default=3, help="how many failures in a row to accept while the slice is there"
    )
    flags.add_argument("--poll", type=float, default=30, help="seconds between looks at the queue")
    flags.add_argument("--delete", action="store_true", help="with up: give the slice back at the end")
    return flags


def run(arguments: Sequence[str]) -> int:
    """The command."""
    own, train = split_arguments(arguments)
    options = parser().parse_args(own)
    options.arguments = train
    if options.command in ("up", "run"):
        check_train_arguments(train)
    mine = Slice(Shell(options.dry_run), options)
    if options.command == "status":
        print(mine.state() or "absent")
        return 0
    if options.command == "run":
        return mine.train()
    if options.command == "create":
        mine.create()
        mine.wait()
        return 0
    return getattr(mine, options.command)() or 0


if __name__ == "__main__":
    main(run)
