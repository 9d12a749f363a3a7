"""A fault campaign: every command that writes, against every way in which a place refuses to be written (or read).

    python -m tests.support.write_errors --out docs/results/write_errors.json

Each cell is a process of its own: a command, a fault, its exit status, its last line, its seconds, and what still loads
where it wrote. OUT is written after every cell, and the same command goes on where it was stopped. Faults that need root
(a full or a read-only file system) are noted as not tried where they cannot be made.

A cell is good if the process ended by itself within SECONDS with a status from 1 to 127 and one line that begins with
"error:", and no traceback. `stdout full` may also end with 0. What it left is recorded, for people; it is not judged.
"""

import argparse
import contextlib
import datetime
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from sgt_jax.data.stored.atomic import write_text
from tests.support import mutations
from tests.support.paths import REPOSITORY

SECONDS = 240  # for one process, start-up and compilation included
SMALL = 2_000  # bytes that a file may have under "file size"
TINY = [f"--config={REPOSITORY}/tests/support/kills.py", "--config.total_steps=4"]
QUICK = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"


def sgt(*arguments: object) -> list[str]:
    """A command of the package."""
    return [sys.executable, "-m", "sgt_jax", *map(str, arguments)]


def train(workdir: Path) -> list[str]:
    """The tiny run of the campaign of kills, four steps of it."""
    return [sys.executable, "-m", "sgt_jax.main", *TINY, f"--workdir={workdir}"]


def commands(made: Path) -> dict[str, Callable[[Path], list[str]]]:
    """{name: output folder -> command}; `made` holds a finished run "run", a data set "data" and a study "study"."""
    run = made / "run"
    config = f"--config={REPOSITORY}/configs/nano.py"
    few = [f"--config.data.sources.{name}.num=8" for name in ("train", "held_out", "held_out_all")]
    return {
        "main": lambda out: train(out / "run"),
        "ingest": lambda out: sgt(
            "ingest", "type=folder", f"root={made / 'data'}", "photos=p", "masks=m", out / "records", "--workers", 1
        ),
        "tokenize": lambda out: sgt("tokenize", config, *few, f"--config.data.mixture.proxy.tokenised={out / 'tokens'}"),
        "convert": lambda out: sgt("convert", run, out / "folder"),
        "sample": lambda out: sgt(
            "sample", "--checkpoint", run, "t2i", "a red circle", "--steps", 2, "--out", out / "x.png"
        ),
        "report": lambda out: sgt("report", out / "study"),
        "inspect-data": lambda out: sgt("inspect-data", config, *few, "--out", out / "look"),
        "embed": lambda out: sgt(
            "embed", "--checkpoint", run, "--n", 12, "--perplexity", 3, "--out", out / "embedded"
        ),
        "proxies": lambda out: sgt("proxies", "--out", out / "cards"),
    }


def prepare(made: Path) -> None:
    """What the commands read, made once."""
    if (made / "ready").exists():
        return
    made.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(train(made / "run"), cwd=REPOSITORY, env=environment(made), check=False, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    mutations.FIXTURES["folder"](made / "data")
    shutil.copytree(REPOSITORY / "docs/results/ratio", made / "study", dirs_exist_ok=True)
    (made / "ready").touch()


def environment(made: Path) -> dict[str, str]:
    """Quick programs, kept for the next cell."""
    cache = os.environ.get("JAX_COMPILATION_CACHE_DIR", str(made / "cache"))
    return os.environ | {
        "JAX_PLATFORMS": "cpu", "XLA_FLAGS": QUICK, "JAX_COMPILATION_CACHE_DIR": cache,
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.2",
    }  # fmt: skip


# -- Faults ------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def mounted(out: Path, size: str) -> Iterator[None]:
    """A file system of its own at `out`, in memory."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(out)], check=True, capture_output=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(out)], check=True)


@contextlib.contextmanager
def full(out: Path, made: Path) -> Iterator[dict[str, Any]]:
    """A file system without room for another byte."""
    used = sum(path.stat().st_size for path in (made / "study").rglob("*") if path.is_file()) if study_in(out) else 0
    with mounted(out, f"{used // 1024 * 2 + 64}k"):
        put_study(out, made)
        (out / "ballast").write_bytes(bytes(shutil.disk_usage(out).free))
        yield {}


def study_in(out: Path) -> bool:
    """Whether the cell's command reports a study that lies in its output folder."""
    return out.name.startswith("report")


def put_study(out: Path, made: Path) -> None:
    """Copies the study to the output folder of `report`; a pipe stays one."""
    if not study_in(out):
        return
    for path in [path for path in (made / "study").rglob("*") if path.suffix != ".html"]:
        target = out / "study" / path.relative_to(made / "study")
        target.parent.mkdir(parents=True, exist_ok=True)
        if path.is_fifo():
            os.mkfifo(target)
        elif path.is_file():
            shutil.copy(path, target)


@contextlib.contextmanager
def read_only(out: Path, made: Path) -> Iterator[dict[str, Any]]:
    """A file system that is mounted for reading only."""
    with mounted(out, "8m"):
        put_study(out, made)
        subprocess.run(["mount", "-o", "remount,ro", str(out)], check=True, capture_output=True)
        yield {}


@contextlib.contextmanager
def unwritable(out: Path, made: Path) -> Iterator[dict[str, Any]]:
    """A folder of mode 555. Root may write there, too, unless it gives that right up."""
    put_study(out, made)
    for path in [*out.rglob("*"), out]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    drop = ["setpriv", "--bounding-set=-dac_override,-dac_read_search,-fowner"] if os.getuid() == 0 else []
    try:
        yield {"prefix": drop}
    finally:
        out.chmod(0o755)


@contextlib.contextmanager
def file_size(out: Path, made: Path) -> Iterator[dict[str, Any]]:
    """RLIMIT_FSIZE: no file may grow beyond SMALL bytes."""
    put_study(out, made)
    yield {"preexec_fn": lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (SMALL, SMALL))}


@contextlib.contextmanager
def file_in_place(out: Path, made: Path) -> Iterator[dict[str, Any]]:
    """A file where the folder should be."""
    out.rmdir()
    out.write_text("a file")
    yield {}


@contextlib.contextmanager
def dangling_link(out: Path, made: Path) -> Iterator[dict[str, Any]]:
    """A link to a folder on a disk that is gone."""
    out.rmdir()
    out.symlink_to("/nowhere/disk")
    yield {}


@contextlib.contextmanager
def stdout_full(out: Path, made: Path) -> Iterator[dict[str, Any]]:
    """Standard output goes to /dev/full, as a log on a full disk."""
    put_study(out, made)
    with open("/dev/full", "w") as target:
        yield {"stdout": target}


@contextlib.contextmanager
def fifo(out: Path, made: Path) -> Iterator[dict[str, Any]]:
    """What the command reads is a pipe that nobody writes to: opened without care, it is waited for without end."""
    for folder, name in (("run", "config.json"), ("data", "p/1.jpg"), ("study", "study.json")):
        shutil.copytree(made / folder, made / "pipes" / folder, dirs_exist_ok=True)
        (made / "pipes" / folder / name).unlink(missing_ok=True)
        os.mkfifo(made / "pipes" / folder / name)
    put_study(out, made / "pipes")
    try:
        yield {"command": commands(made / "pipes")}
    finally:
        shutil.rmtree(made / "pipes")


FAULTS = {
    f.__name__.replace("_", " "): f
    for f in (full, read_only, unwritable, file_size, file_in_place, dangling_link, stdout_full, fifo)
}
READERS = ("ingest", "convert", "sample", "report", "embed")  # commands that "fifo" concerns


# -- Cells -------------------------------------------------------------------------------------------------------------


def left(out: Path) -> str:
    """What lies where the command wrote, and whether it can be used."""
    if not out.is_dir():
        return "nothing"
    found = []
    for run in [path.parent for path in out.glob("*/checkpoints")]:
        steps = sorted(path.name for path in run.joinpath("checkpoints").iterdir() if path.name.isdigit())
        found.append(f"checkpoints {' '.join(steps) or 'none'}")
    for name in ("records", "tokens", "folder", "embedded", "look", "cards"):
        if (out / name).is_dir():
            files = [path for path in (out / name).rglob("*") if path.is_file()]
            index = [path.name for path in files if path.name in ("index.json", "dataset_info.json", "ema.safetensors")]
            found.append(f"{name}: {len(files)} files{', with ' + index[0] if index else ''}")
    if (out / "x.png").exists():
        found.append(f"x.png of {(out / 'x.png').stat().st_size} bytes")
    return "; ".join(found) or "nothing"


def verdict(fault: str, cell: dict[str, Any]) -> bool:
    """See the module's text."""
    ended = 1 <= cell["status"] <= 127 or (fault == "stdout full" and cell["status"] == 0)
    said = cell["status"] == 0 or cell["last"].startswith("error:")
    return ended and said and not cell["traceback"]


def run_cell(name: str, fault: str, build: Callable[[Path], list[str]], out: Path, made: Path) -> dict[str, Any]:
    """Runs a command with a fault."""
    out.mkdir(parents=True)
    with FAULTS[fault](out, made) as how:
        began = time.monotonic()
        command = (how["command"][name] if "command" in how else build)(out)
        arguments = {"stdout": subprocess.PIPE, "preexec_fn": how.get("preexec_fn")}
        if "stdout" in how:
            arguments["stdout"] = how["stdout"]
        process = subprocess.Popen(
            [*how.get("prefix", ()), *command], cwd=REPOSITORY, env=environment(made), stderr=subprocess.PIPE, text=True,
            **arguments,
        )  # fmt: skip
        try:
            said, errors = process.communicate(timeout=SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            said, errors = process.communicate()
        lines = [line for line in errors.splitlines() if line.strip()]
        cell = {
            "status": process.returncode,
            "last": lines[-1].replace(str(out), "OUT").replace(str(made), "MADE")[:300] if lines else "",
            "traceback": "Traceback (most recent call last)" in errors,
            "seconds": round(time.monotonic() - began, 1),
            "left": left(out),
        }
    return cell | {"good": verdict(fault, cell)}


def campaign(out: Path, made: Path, names: list[str], faults: list[str]) -> dict[str, Any]:
    """All cells that OUT does not hold yet."""
    found = json.loads(out.read_text()) if out.exists() else {"cells": {}}
    prepare(made)
    build = commands(made)
    for name in names:
        for fault in faults:
            key = f"{name} / {fault}"
            if key in found["cells"] or (fault == "fifo" and name not in READERS):
                continue
            place = Path(tempfile.mkdtemp(prefix="write_errors_")) / name
            try:
                cell = run_cell(name, fault, build[name], place, made)
            except (subprocess.CalledProcessError, FileNotFoundError) as error:
                cell = {"not tried": str(error)}
            shutil.rmtree(place.parent, ignore_errors=True)
            found["cells"][key] = cell
            commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=REPOSITORY, capture_output=True, text=True, check=False)
            found |= {"commit": commit.stdout.strip(), "date": datetime.date.today().isoformat()}
            tried = [cell for cell in found["cells"].values() if "not tried" not in cell]
            found |= {"tried": len(tried), "good": sum(cell["good"] for cell in tried)}
            write_text(out, json.dumps(found, indent=1, sort_keys=True) + "\n")
            print(key, json.dumps(cell), flush=True)
    return found


def main() -> int:
    """1 if a cell is not good."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--made", type=Path, default=Path(tempfile.gettempdir()) / "write_errors_made")
    parser.add_argument("--commands", nargs="+", default=list(commands(Path())))
    parser.add_argument("--faults", nargs="+", default=list(FAULTS))
    options = parser.parse_args()
    found = campaign(options.out, options.made, options.commands, options.faults)
    return int(found["good"] < found["tried"])


if __name__ == "__main__":
    sys.exit(main())
