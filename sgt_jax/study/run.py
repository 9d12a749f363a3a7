"""Runs a study: arms x seeds of one experiment, each scored alike, one small JSON file for each, and a report of them all.

    python -m sgt_jax.study --config=configs/study/NAME.py --workdir=DIR

A study's config (see configs/study/proxies.py) has `base`, a whole experiment, and `arms`: name -> what differs from it. An
arm of `total_steps=0` scores the model that all start from; it runs once, the others once a seed. Arms that are done are
skipped, an arm that was interrupted continues from its own checkpoint, so killing and restarting loses at most the steps
since then and changes no number. The same command started twice shares the runs out: a run has one worker at a time, and
two workers on one core each (--config.base.cpu_devices=1) finish sooner than one on two. What other studies have run with
the very same settings is taken from their results (--reuse=FOLDER,...). Results go to `results` (default DIR/results), which
is all that a report needs.
"""

import contextlib
import fcntl
import json
import os
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

from absl import app, flags, logging
from etils import epath

from sgt_jax.errors import DataError
from sgt_jax.reporting.metrics import realised
from sgt_jax.study.arms import Run, arm_names, fingerprint, run_config, runs
from sgt_jax.study.records import ITEMS, PICTURES, RUNS, STUDY, item_labels, pack, write_json


def run_study(
    study: Any,
    workdir: epath.PathLike,
    results: epath.PathLike | None = None,
    only: Any = (),
    reuse: Sequence[epath.PathLike] = (),
    keep: bool = False,
) -> epath.Path:
    """Runs what is still to be run and returns the report's path; what `reuse`, results of other studies, has is copied.

    With `keep` the last checkpoint of every run stays in its work directory, WORKDIR/arms/ARM_SEED, for the analyses.

    Raises:
      DataError: `results` holds another study, or results of other settings.
      ValueError: an arm's changes do not fit the base config.
    """
    from sgt_jax.study import reuse as study_reuse
    from sgt_jax.training import loop

    workdir = epath.Path(workdir)
    results = epath.Path(results) if results else workdir / "results"
    if unknown := [arm for arm in only if arm not in study.arms]:
        raise ValueError(f"no arms {unknown}; config.arms has {', '.join(study.arms)}")
    _write_study(study, results)
    todo = [run for run in runs(study) if not only or run.arm in only]
    study_reuse.take(study, todo, results, reuse)
    started, before = time.time(), _done(results, todo)
    for number, run in enumerate(todo):
        config, out = run_config(study, run), results / RUNS / f"{run.name}.json"
        with _claimed(workdir / "arms" / f"{run.name}.lock") as mine:
            if out.exists():
                if json.loads(out.read_text())["fingerprint"] != fingerprint(config):
                    advice = "remove it or choose other --results"
                    raise DataError(f"{out}: is of other settings than config.arms.{run.arm}; {advice}")
                continue
            if not mine:
                print(f"== {study.name}: arm {run.arm}, seed {run.seed} is under way in another process", flush=True)
                continue
            # Workers side by side finish runs for one another, so time goes by what is done, by whomever.
            done = _done(results, todo)
            pace = (time.time() - started) / max(done - before, 1)
            left = f", about {pace * (len(todo) - done) / 60:.0f} min left" if done > before else ""
            print(f"== {study.name}: run {number + 1} of {len(todo)}, arm {run.arm}, seed {run.seed}{left}", flush=True)
            folder = workdir / "arms" / run.name
            state = loop.train(config, os.fspath(folder))
            if int(state.step) < config.total_steps:
                print("stopped; the same command continues", flush=True)
                return results
            _collect(study, run, config, folder, results)
            if not keep:
                shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    from sgt_jax.study import page

    return page.build(results)


def _done(results: epath.Path, wanted: Sequence[Run]) -> int:
    return sum((results / RUNS / f"{run.name}.json").exists() for run in wanted)


@contextlib.contextmanager
def _claimed(path: epath.Path) -> Iterator[bool]:
    """Whether this process may work on a run: one at a time may. The system frees the lock of a process that dies."""
    if "://" in os.fspath(path):  # cloud storage has no locks; one worker at a time is up to the user there
        yield True
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def _write_study(study: Any, results: epath.Path) -> None:
    """Writes what the study is, or checks that the folder is of this one."""
    facts = {
        "name": study.name,
        "seeds": [int(s) for s in study.seeds],
        "arms": {arm: json.loads(study.arms[arm].to_json_best_effort()) for arm in arm_names(study)},
        "steps": {arm: study.arms[arm].get("total_steps", study.base.total_steps) for arm in arm_names(study)},
        **{k: list(study[k]) for k in ("references", "understanding")},
        **{k: study[k] for k in ("headline", "favourite")},
        "scores": {name: json.loads(study.scores[name].to_json_best_effort()) for name in study.columns},
        "splits": study.splits.to_dict(),
        **({"about": study.about} if "about" in study else {}),
        **({"curve": json.loads(study.curve.to_json_best_effort())} if "curve" in study else {}),
        "base": json.loads(study.base.to_json_best_effort()),
    }
    (results / RUNS).mkdir(parents=True, exist_ok=True)
    path = results / STUDY
    if path.exists() and json.loads(path.read_text())["name"] != study.name:
        raise DataError(f"{path}: is of another study; choose other --results")
    write_json(path, facts)


def _collect(study: Any, run: Run, config: Any, folder: epath.Path, results: epath.Path) -> None:
    """Turns what a finished run left in its work directory into one small file."""
    from sgt_jax.evaluation.items import load_items
    from sgt_jax.study import history

    numbers, labels = {}, {}
    for name in config.evaluators:
        items = load_items(folder, config.total_steps, name)
        keep = item_labels(study, name)
        labels[name] = {key: items[key] for key in sorted(keep)}
        numbers[name] = {k: pack(v) for k, v in items.items() if k not in keep and isinstance(v[0], int | float)}
    known = results / ITEMS
    if not known.exists():
        write_json(known, labels)
    elif json.loads(known.read_text()) != labels:
        raise DataError(f"{known}: the items of arm {run.arm} are others; all arms must be scored on the same")
    if run.seed == study.seeds[0]:
        (results / PICTURES).mkdir(exist_ok=True)
        for picture in (folder / "pictures").glob(f"step_{config.total_steps:07d}_*.png"):
            name = picture.name.split("_", 2)[2]
            (results / PICTURES / f"{run.arm}_{name}").write_bytes(picture.read_bytes())
    summary = json.loads((folder / "run.json").read_text())
    record = {
        "arm": run.arm,
        "seed": run.seed,
        "steps": config.total_steps,
        "fingerprint": fingerprint(config),
        "samples": realised(folder),
        "items": numbers,
        # Of the last process that worked on it, if it was interrupted.
        "timing": {**summary["parts"], "resumed_at": summary["resumed_at"]},
    }
    if study.get("history"):
        record["history"] = history.history(study, config, folder)
    write_json(results / RUNS / f"{run.name}.json", record)


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments {argv[1:]}; overrides look like --config.base.total_steps=100")
    options = flags.FLAGS
    study = options.config
    logging.set_verbosity(logging.WARNING)
    from sgt_jax.parallel.compiling import keep_compiled
    from sgt_jax.parallel.distributed import prepare_platform

    prepare_platform(study.base.platform, study.base.cpu_devices)
    # Arms differ in their data more often than in their shapes: what one has compiled, the next one finds.
    keep_compiled(study.base.compilation_cache or os.path.join(options.workdir, "compiled"))
    from sgt_jax.errors import USER_ERRORS

    try:
        print(run_study(study, options.workdir, options.results, options.only, options.reuse, options.keep))
    except USER_ERRORS as error:
        if os.environ.get("SGT_TRACEBACK"):
            raise
        sys.exit(f"error: {error}\n(SGT_TRACEBACK=1 shows where)")


if __name__ == "__main__":
    # Defined here and not at import: a program may use this module and have flags of its own.
    flags.DEFINE_string("config", None, "The study: a file of configs/study/; --config.NAME=VALUE overrides.")
    flags.DEFINE_string("workdir", None, "Where arms train; the same one resumes.")
    flags.DEFINE_string("results", None, "Folder of the results; default WORKDIR/results.")
    flags.DEFINE_list("only", [], "Names of arms to run now (default: all); the others wait for another call.")
    flags.DEFINE_list("reuse", [], "Results folders of other studies: runs of the same settings are taken from there.")
    flags.DEFINE_bool("keep", False, "Keep every run's last checkpoint, for sample, probe, attention and align.")
    flags.mark_flags_as_required(["config", "workdir"])
    from sgt_jax.training import config_file

    app.run(main, flags_parser=config_file.parse_flags)
