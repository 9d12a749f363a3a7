"""The launchers' conversations with gcloud, xpk, kubectl and Slurm, held with stand-ins that record what they are asked."""

import json
import os
import subprocess
import sys

import pytest
from sgt_jax.launch import gke, local, shell, slurm, tpu

from tests.support.paths import REPOSITORY as ROOT

PROGRAMS = ("gcloud", "xpk", "kubectl", "sbatch", "squeue", "scancel")
TPU = ["my-run", "--project=p", "--zone=us-east5-a", "--accelerator-type=v5p-16", "--poll=0"]
GKE = ["--cluster=c", "--project=p", "--zone=us-east5-a"]
TRAIN = ["--", "--config=configs/bagel_7b_sgt.py", "--workdir=gs://b/runs/x"]


class World:
    """The stand-ins: what they shall answer, and what they were asked."""

    def __init__(self, folder):
        self.folder = folder
        self.answer({})

    def answer(self, answers):
        (self.folder / "answers.json").write_text(json.dumps(answers))

    def asked(self):
        file = self.folder / "asked.jsonl"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    def words(self, *wanted):
        """The calls that hold all these words."""
        return [c for c in self.asked() if all(w in " ".join([c["program"], *c["arguments"]]) for w in wanted)]


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """A repository of one file, for git to pack as it packs ours: ours takes it a second, and nothing here looks inside."""
    folder = tmp_path_factory.mktemp("sources")
    (folder / "README.md").write_text("small\n")
    author = ["-c", "user.name=a", "-c", "user.email=a@b"]
    for words in (["init", "-q"], ["add", "."], [*author, "commit", "-q", "-m", "one"]):
        subprocess.run(["git", *words], cwd=folder, check=True)
    return folder


@pytest.fixture
def world(tmp_path, monkeypatch, sources):
    programs = tmp_path / "bin"
    programs.mkdir()
    for program in PROGRAMS:
        script = programs / program
        script.write_text(f"#!{sys.executable} -S\n" + (ROOT / "tests" / "support" / "stand_in.py").read_text())
        script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("STAND_IN", str(tmp_path))
    monkeypatch.chdir(sources)
    monkeypatch.setattr(sys, "stdin", None)
    return World(tmp_path)


def verbs(world):
    """What was asked of gcloud, in short."""
    return [
        next(v for v in ("describe", "create", "delete", "scp", "ssh") if v in c["arguments"]) for c in world.asked()
    ]


# -- Cloud TPU ---------------------------------------------------------------------------------------------------------


def test_tpu_up_waits_installs_and_trains_on_all_workers(world, capsys):
    world.answer({"describe": [["", 1], ["WAITING_FOR_RESOURCES", 0], ["PROVISIONING", 0], ["ACTIVE", 0]]})
    assert tpu.run(["up", *TPU, "--spot", "--mount=gs://b/data=/data", *TRAIN]) == 0
    assert verbs(world) == ["describe", "create", "describe", "describe", "describe", "scp", "ssh", "ssh"]
    (create,) = world.words("create")
    for word in ("--node-id=my-run", "--accelerator-type=v5p-16", "--runtime-version=v2-alpha-tpuv5", "--spot",
                 "--project=p", "--zone=us-east5-a"):  # fmt: skip
        assert word in create["arguments"]
    install, train = world.words("tpu-vm", "ssh")
    assert all("--worker=all" in call["arguments"] for call in (install, train))
    assert "'.[tpu]'" in install["arguments"][-3] and "--only-dir data b /data" in install["arguments"][-3]
    assert train["arguments"][-3].endswith(
        ".venv/bin/python -m sgt_jax.main --stopped_status=75 --config=configs/bagel_7b_sgt.py --workdir=gs://b/runs/x"
    )
    out = capsys.readouterr().out
    assert "slice my-run: WAITING_FOR_RESOURCES" in out and "slice my-run: PROVISIONING" in out


def test_a_slice_that_is_taken_away_is_replaced_and_the_run_goes_on(world):
    world.answer(
        {
            # There; training; gone when the training has failed; still gone; a new one.
            "describe": [["ACTIVE", 0], ["ACTIVE", 0], ["SUSPENDED", 0], ["SUSPENDED", 0], ["ACTIVE", 0]],
            "ssh sgt_jax.main": [["", 255], ["", 0]],
        }
    )
    assert tpu.run(["up", *TPU, "--delete", *TRAIN]) == 0
    assert verbs(world) == [
        "describe", "describe", "scp", "ssh", "ssh", "describe",  # preempted
        "describe", "delete", "create", "describe", "scp", "ssh", "ssh", "delete",
    ]  # fmt: skip
    assert all({"--force", "--quiet"} <= set(call["arguments"]) for call in world.words("delete"))


def test_a_training_that_fails_on_a_slice_that_is_there_is_not_tried_for_ever(world):
    world.answer({"describe": [["ACTIVE", 0]], "ssh sgt_jax.main": [["", 1]]})
    with pytest.raises(shell.LaunchError, match="failed 3 times in a row"):
        tpu.run(["up", *TPU, "--retries=2", *TRAIN])
    assert len(world.words("ssh", "sgt_jax.main")) == 3 and not world.words("delete")


@pytest.mark.parametrize("answers, words", [
    ({"describe": [["", 1], ["FAILED", 0]]}, "slice my-run is FAILED"),
    ({"describe": [["", 1]], "create": [["", 1]]}, "queued-resources create my-run ... ended with status 1"),
    ({"describe": [["ACTIVE", 0]], "ssh uv": [["", 1]]}, "installing failed on a worker of my-run"),
    ({"describe": [["ACTIVE", 0]], "scp": [["", 1]]}, "ended with status 1"),
])  # fmt: skip
def test_what_goes_wrong_with_a_slice_is_one_line(world, answers, words):
    world.answer(answers)
    with pytest.raises(shell.LaunchError) as caught:
        tpu.run(["up", *TPU, *TRAIN])
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_the_other_commands_do_one_thing_each(world, capsys):
    world.answer({"describe": [["PROVISIONING", 0]]})
    assert tpu.run(["status", *TPU]) == 0 and capsys.readouterr().out.strip() == "PROVISIONING"
    tpu.run(["delete", *TPU])
    assert tpu.run(["run", *TPU, *TRAIN]) == 0
    assert verbs(world) == ["describe", "delete", "ssh"]


# -- GKE ---------------------------------------------------------------------------------------------------------------


def test_gke_mounts_submits_follows_and_deletes(world):
    gke.run(["mount", *GKE, "--mount=gs://b/sets/a=/data/my_set"])
    gke.run(["submit", "my-run", *GKE, "--tpu-type=v6e-16", "--nodes=2", "--image=i", *TRAIN])
    gke.run(["log", "my-run", *GKE])
    gke.run(["delete", "my-run", *GKE])
    mount, submit, credentials, log, delete = world.asked()
    assert mount["arguments"][:3] == ["storage", "attach", "data-my-set"]
    for word in ("--type=gcsfuse", "--bucket=b", "--mount-point=/data/my_set", "--readonly=true", "--cluster=c",
                 "--mount-options=only-dir=sets/a,implicit-dirs"):  # fmt: skip
        assert word in mount["arguments"]
    for word in ("--workload=my-run", "--tpu-type=v6e-16", "--num-slices=2", "--docker-image=i", "--max-restarts=50",
                 "--command=python3 -m sgt_jax.main --stopped_status=75 " + " ".join(TRAIN[1:])):  # fmt: skip
        assert word in submit["arguments"]
    assert credentials["program"] == "gcloud" and "--location=us-east5" in credentials["arguments"]
    assert log["program"] == "kubectl" and "jobset-name=my-run" in log["arguments"][2]
    assert delete["arguments"][:3] == ["workload", "delete", "--workload=my-run"]


def test_gke_gpu_machines_have_their_own_words(world):
    gke.run(["submit", "my-run", *GKE, "--device-type=h100-mega-80gb-8", "--nodes=4", "--image=i", *TRAIN])
    (submit,) = world.asked()
    assert {"--device-type=h100-mega-80gb-8", "--num-nodes=4"} <= set(submit["arguments"])


# -- Slurm -------------------------------------------------------------------------------------------------------------


def test_slurm_submits_a_script_that_queues_itself_again_unless_cancelled(world, tmp_path):
    slurm.run(
        ["submit", "my-run", "--nodes=2", "--gpus=4", "--time=4:00:00", "--grace=120", "--partition=h100", *TRAIN]
    )
    (call,) = world.asked()
    script = call["stdin"]
    assert call["program"] == "sbatch" and script.startswith("#!/bin/bash\n")
    for line in ("--job-name=my-run", "--nodes=2", "--ntasks-per-node=4", "--gpus-per-node=4", "--signal=TERM@120",
                 "--partition=h100", "--requeue"):  # fmt: skip
        assert f"#SBATCH {line}\n" in script
    assert "gpus-per-task" not in script  # JAX picks a GPU of the node by the process's number

    # The script itself, with stand-ins for what it calls: the status of the training decides.
    file = tmp_path / "job.sh"
    file.write_text(script)
    for program in ("srun", "scontrol"):
        (tmp_path / "bin" / program).write_text((tmp_path / "bin" / "sbatch").read_text())
        (tmp_path / "bin" / program).chmod(0o755)
    for status, state, requeued in ((0, "RUNNING", 0), (1, "RUNNING", 0), (75, "COMPLETING", 0), (75, "RUNNING", 1)):
        (tmp_path / "asked.jsonl").unlink()
        world.answer({"srun": [["", status]], "squeue": [[state, 0]]})
        found = subprocess.run(["bash", str(file)], env={**os.environ, "SLURM_JOB_ID": "7"}, stdin=subprocess.DEVNULL)
        assert found.returncode == status
        assert len(world.words("scontrol", "requeue", "7")) == requeued, (status, state)


def test_slurm_status_and_cancel(world):
    slurm.run(["status", "my-run"])
    slurm.run(["cancel", "my-run"])
    assert [(c["program"], c["arguments"]) for c in world.asked()] == [
        ("squeue", ["--me", "--name=my-run"]), ("scancel", ["--me", "--name=my-run"]),
    ]  # fmt: skip


# -- All ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("launcher, arguments", [
    (tpu, ["up", *TPU, "--mount=gs://b=/data", "--delete", *TRAIN]),
    (gke, ["submit", "my-run", *GKE, "--tpu-type=v6e-16", "--image=i", *TRAIN]),
    (gke, ["log", "my-run", *GKE]),
    (slurm, ["submit", "my-run", *TRAIN]),
])  # fmt: skip
def test_a_dry_run_prints_what_would_be_asked_and_asks_nothing(world, capsys, launcher, arguments):
    at = arguments.index("--") if "--" in arguments else len(arguments)
    assert launcher.run([*arguments[:at], "--dry-run", *arguments[at:]]) == 0
    printed = [line for line in capsys.readouterr().out.splitlines() if line.startswith("+ ")]
    assert printed and not world.asked()
    world.answer({"describe": [["", 1], ["ACTIVE", 0]]})
    launcher.run(arguments)
    # Then the same commands are run (git archive by the real git), but for the name of a temporary folder.
    kinds = [line.split()[1] for line in printed if not line.startswith("+ git ")]
    assert kinds == [call["program"] for call in world.asked()]


@pytest.mark.parametrize("launcher, arguments, words", [
    (tpu, ["up", *TPU], "no --config: give the arguments of sgt_jax.main behind '--'"),
    (tpu, ["up", *TPU, "--", "--config=c"], "no --workdir"),
    (tpu, ["create", "my-run", "--project=p", "--zone=z"], "--accelerator-type is needed"),
    (tpu, ["create", "my-run", "--project=p", "--zone=z", "--accelerator-type=v9-1"], "no runtime is known for v9"),
    (gke, ["mount", *GKE], "no --mount"),
    (gke, ["submit", "my-run", *GKE, "--image=i", *TRAIN], "either --tpu-type"),
    (gke, ["submit", "my-run", *GKE, "--tpu-type=t", *TRAIN], "--image is needed"),
    (gke, ["log", *GKE], "log needs the NAME"),
    (slurm, ["submit", "my-run"], "no --config"),
])  # fmt: skip
def test_wrong_calls_are_one_line(world, launcher, arguments, words):
    world.answer({"describe": [["", 1]]})
    with pytest.raises(shell.LaunchError) as caught:
        launcher.run(arguments)
    assert words in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("arguments, words", [
    (["up", "My_Run", *TPU[1:]], "small letters, digits and inner hyphens"),
    (["up", *TPU, "--mount=/local=/data"], "must look like gs://BUCKET/DIR=/mount/point"),
])  # fmt: skip
def test_wrong_arguments_are_refused_by_the_parser(capsys, arguments, words):
    with pytest.raises(SystemExit):
        tpu.run(arguments)
    assert words in capsys.readouterr().err


def test_a_program_that_is_not_installed_is_one_line(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(shell.LaunchError, match="'scancel' is not on PATH"):
        slurm.run(["cancel", "my-run"])


# -- Local -------------------------------------------------------------------------------------------------------------


def test_local_gives_every_process_its_number(capsys):
    assert local.main(["-n", "3", "--devices=2", "--dry-run", *TRAIN]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3 and len({line.split("--coordinator=")[1].split()[0] for line in lines}) == 1
    for i, line in enumerate(lines):
        assert f"--processes=3 --process={i}" in line and "--config.cpu_devices=2" in line and TRAIN[1] in line
    # As a file, too, from anywhere.
    found = subprocess.run(
        [sys.executable, str(ROOT / "launch" / "local.py"), "-n", "2", "--dry-run", *TRAIN],
        capture_output=True, text=True, cwd="/",
    )  # fmt: skip
    assert found.returncode == 0 and len(found.stdout.splitlines()) == 2


def test_local_marks_lines_and_ends_the_rest_when_one_fails(capfd):
    fine = [sys.executable, "-S", "-c", "import time; print('waiting', flush=True); time.sleep(60)"]
    broken = [sys.executable, "-S", "-c", "import sys; print('broken'); sys.exit(3)"]
    before = os.times().elapsed
    assert local.run([fine, broken], grace=0.5) == 3
    assert os.times().elapsed - before < 30
    out = capfd.readouterr().out
    assert "waiting" in out and "[1] broken" in out and "process 1 ended with status 3" in out
