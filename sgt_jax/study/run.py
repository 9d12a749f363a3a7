"""Runs a study: several arms and seeds of one experiment, all scored in the same way, one small JSON file for each run.

    python -m sgt_jax.study --config=configs/study/ratio.py --workdir=/tmp/ratio

A study's config (see configs/study/proxies.py) has `base`, a whole experiment, and `arms`: name -> what differs from
it. An arm of `total_steps=0` scores the model that all start from; it runs once, the others once per seed. Finished
runs are skipped, and an interrupted run continues from its checkpoint, so killing and restarting loses at most the
steps since then and changes no number. If you start the same command twice, the processes share the runs: each run has
one worker at a time, and two workers on one core each (--config.base.cpu_devices=1) finish sooner than one on two.
An arm with `after` starts from the last weights of that arm with the same seed; if these are not there yet, because another
process makes them, it waits for the next call. --reuse=FOLDER,... takes runs of the same settings from the results of other
studies. A report needs only the folder --results (default WORKDIR/results).
"""

import json
import os
import shutil
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from etils import epath
from ml_collections import ConfigDict

from sgt_jax.errors import ConfigError, DataError, hint
from sgt_jax.evaluation.items import load_items
from sgt_jax.reporting.metrics import realised_samples
from sgt_jax.study import records, sheets, stages
from sgt_jax.study.arms import Run, arm_names, fingerprint, run_config, runs
from sgt_jax.study.history import history
from sgt_jax.study.reuse import take_runs
from sgt_jax.study.workers import Pace, claimed
from sgt_jax.training import loop

# Parts of a study that it may lack; see the module of each.
OPTIONAL = ("curve", "gates", "registered", "conditional", "replaced", "cost")


def run_study(
    study: ConfigDict,
    workdir: epath.PathLike,
    results: epath.PathLike,
    only: Collection[str] = (),
    reuse: Sequence[epath.PathLike] = (),
    keep: bool = False,
    steal_lock: bool = False,
) -> bool:
    """Runs what is still to be run, into `results`; what `reuse`, results of other studies, has is copied.

    With `keep` the last checkpoint of every run stays in its work directory, WORKDIR/arms/ARM_SEED, for the analyses.
    With `steal_lock` an arm's work directory is taken from a run that holds its lock.

    Returns:
      Whether it came to its end; False if a signal stopped it.

    Raises:
      DataError: `results` holds another study, or results of other settings.
      ConfigError: an arm's changes do not fit the base config.
      LockedError: another run works in the work directory of an arm.
    """
    workdir, results = epath.Path(workdir), epath.Path(results)
    if unknown := [arm for arm in only if arm not in study.arms]:
        raise ConfigError(f"no arms {unknown}; {hint(unknown[0], study.arms, 'config.arms has')}")
    write_study(study, results)
    wanted = [run for run in runs(study) if not only or run.arm in only]
    take_runs(study, wanted, results, reuse)
    pace = Pace([_record_path(results, run) for run in wanted])
    for number, run in enumerate(wanted, 1):
        with claimed(workdir / "arms" / f"{run.name}.lock") as mine:
            config = run_config(study, run)
            if _is_done(run, config, results):
                continue
            label = f"arm {run.arm}, seed {run.seed}"
            if not mine:
                print(f"== {study.name}: {label} is under way in another process", flush=True)
                continue
            if stages.waits(study, run, workdir, results):
                print(f"== {study.name}: {label} waits for its first stage, which is not finished", flush=True)
                continue
            print(f"== {study.name}: run {number} of {len(wanted)}, {label}{pace.left()}", flush=True)
            folder = workdir / "arms" / run.name
            if not loop.run(stages.started(study, run, config, workdir), os.fspath(folder), steal_lock).finished:
                print("stopped; the same command continues", flush=True)
                return False
            stages.keep(study, run, workdir)
            _collect(study, run, config, folder, results)
            if not keep:
                shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    return True


def write_study(study: ConfigDict, results: epath.Path) -> None:
    """Writes study.json, what the study is.

    Raises:
      DataError: the folder is of another study.
    """
    facts = {
        "name": study.name,
        "seeds": [int(s) for s in study.seeds],
        "arms": {arm: _as_dict(study.arms[arm]) for arm in arm_names(study)},
        "steps": {arm: study.arms[arm].get("total_steps", study.base.total_steps) for arm in arm_names(study)},
        **{k: list(study[k]) for k in ("references", "understanding")},
        **{k: study[k] for k in ("headline", "favourite")},
        "scores": {name: _as_dict(study.scores[name]) for name in study.columns},
        "splits": study.splits.to_dict(),
        **({"about": study.about} if "about" in study else {}),
        **{name: _as_dict(study[name]) for name in OPTIONAL if name in study},
        "base": _as_dict(study.base),
    }
    (results / records.RUNS).mkdir(parents=True, exist_ok=True)
    path = results / records.STUDY
    if path.exists() and json.loads(path.read_text())["name"] != study.name:
        raise DataError(f"{path}: is of another study; choose other --results")
    records.write_json(path, facts)


def _as_dict(config: ConfigDict) -> dict[str, Any]:
    return json.loads(config.to_json_best_effort())


def _record_path(results: epath.Path, run: Run) -> epath.Path:
    return results / records.RUNS / f"{run.name}.json"


def _is_done(run: Run, config: ConfigDict, results: epath.Path) -> bool:
    """Whether the record of a run is there; one of other settings is refused."""
    path = _record_path(results, run)
    if not path.exists():
        return False
    if json.loads(path.read_text())["fingerprint"] != fingerprint(config):
        advice = "remove it or choose other --results"
        raise DataError(f"{path}: is of other settings than config.arms.{run.arm}; {advice}")
    return True


def _collect(study: ConfigDict, run: Run, config: ConfigDict, folder: epath.Path, results: epath.Path) -> None:
    """Turns what a finished run left in its work directory into one small file."""
    labels, numbers = _items(study, config, folder)
    if not records.same_items(results, labels):
        path = results / records.ITEMS
        raise DataError(f"{path}: the items of arm {run.arm} are others; all arms must be scored on the same")
    if run.seed == study.seeds[0]:
        _copy_pictures(run, config, folder, results)
    summary = json.loads((folder / "run.json").read_text())
    record = {
        "arm": run.arm,
        "seed": run.seed,
        "steps": config.total_steps,
        "fingerprint": fingerprint(config),
        "samples": realised_samples(folder),
        "items": numbers,
        # Of the last process that worked on it, if it was interrupted.
        "timing": {**summary["parts"], "resumed_at": summary["resumed_at"]},
    }
    if study.get("history"):
        record["history"] = history(study, config, folder)
    records.write_json(_record_path(results, run), record)


def _items(study: ConfigDict, config: ConfigDict, folder: epath.Path) -> tuple[Mapping, Mapping]:
    """Of the last evaluation: what the items are, and packed results of each; both {evaluator: {list: values}}."""
    labels, numbers = {}, {}
    for name in config.evaluators:
        items = load_items(folder, config.total_steps, name)
        told = records.item_labels(study, name)
        labels[name] = {key: items[key] for key in sorted(told)}
        numbers[name] = {
            key: records.pack(values)
            for key, values in items.items()
            if key not in told and isinstance(values[0], int | float)
        }
    return labels, numbers


def _copy_pictures(run: Run, config: ConfigDict, folder: epath.Path, results: epath.Path) -> None:
    """Copies the grids of a run's last step."""
    (results / records.PICTURES).mkdir(exist_ok=True)
    for picture in (folder / "pictures").glob(f"step_{config.total_steps:07d}_*.png"):
        name = picture.name.split("_", 2)[2]
        (results / records.PICTURES / f"{run.arm}_{name}").write_bytes(picture.read_bytes())
    sheets.save_captions(results, {name: load_items(folder, config.total_steps, name) for name in config.evaluators})
