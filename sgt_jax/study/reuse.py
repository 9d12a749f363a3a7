"""Takes a finished run from another study's results where the settings are the same, instead of running it again."""

import json
from collections.abc import Sequence
from typing import Any

from etils import epath

from sgt_jax.errors import DataError
from sgt_jax.study import arms as study_arms
from sgt_jax.study import records


def take(study: Any, wanted: Sequence[study_arms.Run], results: epath.Path, folders: Sequence[epath.PathLike]) -> None:
    """Copies those of the wanted runs that `results` lacks and another study has finished, with where they came from.

    Args:
      folders: results of other studies, searched in order.

    Raises:
      DataError: a folder holds no results, or what its items are called is not kept or differs from what `results` knows.
    """
    if not folders:
        return
    known: dict[str, tuple[epath.Path, str, dict]] = {}
    for folder in map(epath.Path, folders):
        if not (folder / records.STUDY).exists():
            raise DataError(f"--reuse: {folder} holds no {records.STUDY}; give the results of a study")
        name = json.loads((folder / records.STUDY).read_text())["name"]
        for record in records.finished(folder):
            # How often a run is scored is no part of its fingerprint: the record may lack what a curve needs.
            if "history" in record or not study.get("history"):
                known.setdefault(record["fingerprint"], (folder, name, record))
    for run in wanted:
        fingerprint = study_arms.fingerprint(study_arms.run_config(study, run))  # the seed is part of it
        if fingerprint in known and not (results / records.RUNS / f"{run.name}.json").exists():
            _copy(study, run, results, *known[fingerprint])


def _copy(study: Any, run: study_arms.Run, results: epath.Path, folder: epath.Path, name: str, record: dict) -> None:
    labels, known = _labels_of(study, folder, record), results / records.ITEMS
    if not known.exists():
        records.write_json(known, labels)
    elif json.loads(known.read_text()) != labels:
        raise DataError(f"--reuse: {folder} scores other items than {known}; leave it out, or use other --results")
    if run.seed == study.seeds[0]:
        _copy_pictures(folder, record["arm"], results, run.arm)
    origin = record.get("reused", f"{name}/{record['arm']}_{record['seed']}")
    records.write_json(results / records.RUNS / f"{run.name}.json", {**record, "arm": run.arm, "reused": origin})
    print(f"== {study.name}: arm {run.arm}, seed {run.seed} is {origin}, which has the same settings", flush=True)


def _labels_of(study: Any, folder: epath.Path, record: dict[str, Any]) -> dict[str, dict[str, list]]:
    """What the other study's items are, as this study would have kept it."""
    kept = json.loads((folder / records.ITEMS).read_text())
    labels: dict[str, dict[str, list]] = {}
    for evaluator in record["items"]:
        wanted = sorted(records.item_labels(study, evaluator))
        if missing := [key for key in wanted if key not in kept.get(evaluator, {})]:
            raise DataError(f"--reuse: {folder / records.ITEMS} lacks {missing} of evaluator '{evaluator}'")
        labels[evaluator] = {key: kept[evaluator][key] for key in wanted}
    return labels


def _copy_pictures(folder: epath.Path, arm: str, results: epath.Path, own: str) -> None:
    arms = [path.name.rpartition("_")[0] for path in (folder / records.RUNS).glob("*.json")]
    longer = tuple(f"{other}_" for other in set(arms) if other != arm and other.startswith(f"{arm}_"))
    (results / records.PICTURES).mkdir(exist_ok=True)
    for picture in (folder / records.PICTURES).glob(f"{arm}_*.png"):
        if longer and picture.name.startswith(longer):  # of sft_long, where sft is meant
            continue
        (results / records.PICTURES / f"{own}_{picture.name.removeprefix(f'{arm}_')}").write_bytes(picture.read_bytes())
