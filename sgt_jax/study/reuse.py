"""Takes a finished run from another study's results where the settings are the same, instead of running it again."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from etils import epath
from ml_collections import ConfigDict

from sgt_jax.errors import DataError
from sgt_jax.study import records
from sgt_jax.study.arms import Run, fingerprint, run_config
from sgt_jax.study.sheets import CAPTIONS


class _Recorded(NamedTuple):
    """A finished run of another study: the folder of its results, its name, and the run's record."""

    folder: epath.Path
    study: str
    record: Mapping[str, Any]


def take_runs(study: ConfigDict, wanted: Sequence[Run], results: epath.Path, folders: Sequence[epath.PathLike]) -> None:
    """Copies those of the wanted runs that `results` lacks and another study has finished, with where they came from.

    Args:
      folders: results of other studies, searched in order.

    Raises:
      DataError: a folder holds no results, or its items have no labels or others than those of `results`.
    """
    if not folders:
        return
    recorded = _recorded_runs(folders, with_history=bool(study.get("history")))
    for run in wanted:
        settings = fingerprint(run_config(study, run))  # the seed is part of it
        if settings in recorded and not (results / records.RUNS / f"{run.name}.json").exists():
            _copy(study, run, results, recorded[settings])


def _recorded_runs(folders: Sequence[epath.PathLike], with_history: bool) -> dict[str, _Recorded]:
    """Fingerprint -> the first run of these settings."""
    recorded: dict[str, _Recorded] = {}
    for folder in map(epath.Path, folders):
        if not records.is_study(folder):
            raise DataError(f"--reuse: {folder} holds no {records.STUDY}; give the results of a study")
        name = json.loads((folder / records.STUDY).read_text())["name"]
        for record in records.finished(folder):
            # How often a run is scored is no part of its fingerprint: the record may lack what a curve needs.
            if "history" in record or not with_history:
                recorded.setdefault(record["fingerprint"], _Recorded(folder, name, record))
    return recorded


def _copy(study: ConfigDict, run: Run, results: epath.Path, source: _Recorded) -> None:
    """Copies one run, under the arm's name in this study."""
    folder, record = source.folder, source.record
    if not records.same_items(results, _labels(study, source)):
        path = results / records.ITEMS
        raise DataError(f"--reuse: {folder} scores other items than {path}; leave it out, or use other --results")
    if run.seed == study.seeds[0]:
        _copy_pictures(folder, record["arm"], results, run.arm)
    origin = record.get("reused", f"{source.study}/{record['arm']}_{record['seed']}")
    records.write_json(results / records.RUNS / f"{run.name}.json", {**record, "arm": run.arm, "reused": origin})
    print(f"== {study.name}: arm {run.arm}, seed {run.seed} is {origin}, which has the same settings", flush=True)


def _labels(study: ConfigDict, source: _Recorded) -> dict[str, dict[str, list]]:
    """What the other study's items are, as this study would have recorded it."""
    path = source.folder / records.ITEMS
    recorded = json.loads(path.read_text())
    labels: dict[str, dict[str, list]] = {}
    for evaluator in source.record["items"]:
        names = sorted(records.item_labels(study, evaluator))
        if missing := [name for name in names if name not in recorded.get(evaluator, {})]:
            raise DataError(f"--reuse: {path} lacks {missing} of evaluator '{evaluator}'")
        labels[evaluator] = {name: recorded[evaluator][name] for name in names}
    return labels


def _copy_pictures(folder: epath.Path, arm: str, results: epath.Path, new_arm: str) -> None:
    """Copies the grids of an arm, named ARM_WHAT.png, under the arm's name in this study."""
    arms = {path.name.rpartition("_")[0] for path in (folder / records.RUNS).glob("*.json")}
    longer = tuple(f"{other}_" for other in arms if other != arm and other.startswith(f"{arm}_"))
    (results / records.PICTURES).mkdir(exist_ok=True)
    for picture in (folder / records.PICTURES).glob(f"{arm}_*.png"):
        if longer and picture.name.startswith(longer):  # of sft_long, where sft is meant
            continue
        name = f"{new_arm}_{picture.name.removeprefix(f'{arm}_')}"
        (results / records.PICTURES / name).write_bytes(picture.read_bytes())
    told = folder / records.PICTURES / CAPTIONS
    if told.exists():  # the items are the same
        (results / records.PICTURES / CAPTIONS).write_bytes(told.read_bytes())
