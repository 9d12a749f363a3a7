"""Arms that start from what another arm of the study has learnt, with the same seed: `after` in the arm's config."""

import os
import shutil

from etils import epath
from ml_collections import ConfigDict

from sgt_jax.errors import DataError
from sgt_jax.study import records
from sgt_jax.study.arms import Run, stage_of
from sgt_jax.training.publishing import publish

WEIGHTS = "weights"  # folder in the work directory of an arm that others start from, in the published layout


def waits(study: ConfigDict, run: Run, workdir: epath.Path, results: epath.Path) -> bool:
    """Whether the weights that a run starts from are still to be made.

    Raises:
      DataError: they were made, as the record says, and are gone.
    """
    stage = stage_of(study, run)
    if stage is None or _weights(workdir, stage).exists():
        return False
    record = results / records.RUNS / f"{stage.name}.json"
    if record.exists():
        raise DataError(
            f"{_weights(workdir, stage)}: is gone, and arm {run.arm} starts there; remove {record} to make it again"
        )
    return True


def started(study: ConfigDict, run: Run, config: ConfigDict, workdir: epath.Path) -> ConfigDict:
    """The config that a run trains with: `init_from` is the folder of the weights that it starts from."""
    stage = stage_of(study, run)
    if stage is None:
        return config
    config = config.copy_and_resolve_references()
    with config.unlocked():
        del config["after"]
    config.init_from = os.fspath(_weights(workdir, stage))
    return config


def keep(study: ConfigDict, run: Run, workdir: epath.Path) -> None:
    """Writes the averaged weights of a finished run, if another arm starts from them and they are not there yet."""
    out = _weights(workdir, run)
    if out.exists() or not any(study.arms[arm].get("after", "") == run.arm for arm in study.arms):
        return
    part = out.with_name(f"{WEIGHTS}.part")  # what a killed process left is written again
    shutil.rmtree(part, ignore_errors=True)
    publish(out.parent, part, dtype="float32")
    part.rename(out)


def _weights(workdir: epath.Path, run: Run) -> epath.Path:
    return workdir / "arms" / run.name / WEIGHTS
