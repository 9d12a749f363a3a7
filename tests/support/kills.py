"""A fault campaign: a tiny run is killed by SIGKILL at random moments and resumed, until it ends as the straight run did.

    python -m tests.support.kills DIR --kills 100 --seed 0 --out kills.json

Every kill is drawn from the seed: a share of the time that a process needs from its start to its end or, for a share of them
(`--late`), from its first step to its end, as starting takes most of so short a run. A run is killed and resumed again and
again until it ends; then its parameters, its average and its losses are compared, bit for bit, with
those of a run that nobody killed. OUT is written after every kill, and the same command goes on where it was stopped.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from tests.support.paths import REPOSITORY

MOST_KILLS = 5  # of one run; then it may end


def get_config():
    """The run: 24 steps, a save every second one, scored every eighth; this file is its config, too."""
    from tests.support import tiny_experiment

    c = tiny_experiment.config(total_steps=24, evaluate_every=8, cpu_devices=1)
    c.name = "killed"
    c.checkpoint.every = 2
    c.evaluators = dict(loss=dict(type="loss", source="held_out", batches=2))
    return c


def start(workdir: Path, log: Path, processes: int = 1) -> subprocess.Popen:
    """Starts the run, or resumes it; several processes are started by a launcher, which is what is returned."""
    arguments = [f"--config={__file__}", f"--workdir={workdir}"]
    command = [sys.executable, "-m", "sgt_jax.main", *arguments]
    if processes > 1:
        launcher = [sys.executable, "-m", "sgt_jax.launch.local", "-n", str(processes), "--devices=1", "--grace=5"]
        command = [*launcher, "--", *arguments, "--config.mesh.data=-1"]
    with log.open("w") as file:
        return subprocess.Popen(command, cwd=REPOSITORY, stdout=file, stderr=subprocess.STDOUT)


def children(pid: int) -> list[int]:
    """The processes that a process started and that still run."""
    try:
        return [int(text) for text in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def wait_for_steps(child: subprocess.Popen, log: Path) -> None:
    """Returns when the run has done a step, or has ended."""
    while child.poll() is None and not any(line.startswith("step ") for line in log.read_text().splitlines()):
        time.sleep(0.05)


def outcome(workdir: Path) -> dict[str, Any]:
    """What must be equal to the bit: digests of the parameters and of their average, and all losses."""
    from sgt_jax.checkpoints.runs import restore_params
    from sgt_jax.reporting.metrics import read_metrics
    from tests.support.fingerprint import digest

    found = {name: digest(restore_params(workdir, name)[0]) for name in ("params", "ema")}
    return found | {"losses": [[line["step"], line["loss"]] for line in read_metrics(workdir, kind="train")]}


def moment(workdir: Path, log: Path) -> str:
    """What the process did when it was killed."""
    saves = workdir / "checkpoints"
    if saves.is_dir() and any(not path.name.isdigit() for path in saves.iterdir()):
        return "save"
    lines = log.read_text().splitlines()
    steps = [line for line in lines if line.startswith("step")]
    if not steps:
        return "start-up"
    done = int(steps[-1].split()[1].split("/")[0])
    if done % 8 == 0 and not any(line.startswith(f"eval at step {done}:") for line in lines):
        return "scoring"
    return "training"


class Campaign:
    """The kills so far, and where they stand on the disk.

    Arguments:
      folder: for work directories.
      out: the record; an earlier one of the same seed is continued.
      seed: of the moments.
      processes: of the run; of several, two are killed at once, and the launcher ends the others.
      late: share of the kills that wait for the first step.
    """

    def __init__(self, folder: Path, out: Path, seed: int, processes: int = 1, late: float = 0.0) -> None:
        self.folder, self.out, self.processes, self.late = folder, out, processes, late
        folder.mkdir(parents=True, exist_ok=True)
        # The moments of the next kills follow from how many there were.
        self.record: dict[str, Any] = {"seed": seed, "kills": 0, "at": {}, "runs": 0, "equal": 0, "unequal": []}
        if out.exists() and json.loads(out.read_text())["seed"] == seed:
            self.record = json.loads(out.read_text())
        self.random = random.Random(f"{seed} {self.record['kills']}")
        self.straight, self.seconds, self.stepping = self._straight()

    def _straight(self) -> tuple[dict[str, Any], float, float]:
        """The outcome of a run that nobody kills, and seconds of all of it and from its first step (the second time)."""
        began = first = 0.0
        for name in ("warm", "straight"):
            shutil.rmtree(self.folder / name, ignore_errors=True)
            began = time.monotonic()
            child = start(self.folder / name, self.folder / "log", self.processes)
            wait_for_steps(child, self.folder / "log")
            first = time.monotonic()
            assert child.wait() == 0, (self.folder / "log").read_text()
        ended = time.monotonic()
        return outcome(self.folder / "straight"), ended - began, ended - first

    def run(self, kills: int) -> None:
        """Kills until there were so many."""
        while self.record["kills"] < kills:
            self._one_run(kills)

    def _one_run(self, kills: int) -> None:
        workdir, log = self.folder / "run", self.folder / "log"
        shutil.rmtree(workdir, ignore_errors=True)
        most = min(self.random.randint(1, MOST_KILLS), kills - self.record["kills"])
        at, ended = Counter(self.record["at"]), False
        for _ in range(most):
            child = start(workdir, log, self.processes)
            seconds = self.seconds
            if self.random.random() < self.late:
                wait_for_steps(child, log)
                seconds = self.stepping
            try:
                ended = child.wait(self.random.uniform(0.02, 1.0) * seconds) == 0
                break
            except subprocess.TimeoutExpired:
                self._kill(child)
                at[moment(workdir, log)] += 1
                self.record.update(kills=self.record["kills"] + 1, at=dict(at))
                self._write()
        child = start(workdir, log, self.processes)
        ended = child.wait() == 0
        found = outcome(workdir) if ended else log.read_text().splitlines()[-1:]
        self.record["runs"] += 1
        if found == self.straight:
            self.record["equal"] += 1
        else:
            self.record["unequal"].append({"kills": self.record["kills"], "found": found})
        self._write()

    def _kill(self, child: subprocess.Popen) -> None:
        """Kills the process, or two of several at once."""
        started = children(child.pid) if self.processes > 1 else []
        for pid in self.random.sample(started, min(2, len(started))) or [child.pid]:
            os.kill(pid, signal.SIGKILL)
        child.wait()

    def _write(self) -> None:
        commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=REPOSITORY, capture_output=True, text=True).stdout
        self.record.update(commit=commit.strip(), date=time.strftime("%Y-%m-%d"), seconds_of_a_run=round(self.seconds, 1))
        self.out.write_text(json.dumps(self.record, indent=1) + "\n")


def main(arguments: list[str]) -> int:
    """The command; 1 if a run ended otherwise than the straight one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=1, help="of the run; two of several are killed at once")
    parser.add_argument("--late", type=float, default=0.0, help="share of the kills that wait for the first step")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(arguments)
    campaign = Campaign(options.folder, options.out, options.seed, options.processes, options.late)
    campaign.run(options.kills)
    print(json.dumps(campaign.record))
    return 1 if campaign.record["unequal"] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
