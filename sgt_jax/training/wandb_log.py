"""A run's numbers and pictures in Weights & Biases, beside TensorBoard: SGT_WANDB=PROJECT in the environment switches it on.

WANDB_MODE=offline keeps everything in the work directory until `wandb sync`. It needs the extra [wandb]. A run that resumes
goes on in the same record; what it logs again after a checkpoint is left out there, as that record only grows.
"""

import os
import uuid
from collections.abc import Mapping
from typing import Any

import numpy as np
from etils import epath

from sgt_jax.data.stored import atomic
from sgt_jax.errors import ConfigError

VARIABLE = "SGT_WANDB"
_ID = "wandb_id.txt"


def of_environment(workdir: epath.Path, local: epath.Path) -> "WandbWriter | None":
    """The writer that the environment asks for, or None.

    Args:
      workdir: of the run; its name names the record, and a file there keeps the record's id.
      local: a local folder for the files of the client.

    Raises:
      ConfigError: the package is not installed.
    """
    project = os.environ.get(VARIABLE, "")
    return WandbWriter(project, workdir, local) if project else None


class WandbWriter:
    """One record of Weights & Biases."""

    def __init__(self, project: str, workdir: epath.Path, local: epath.Path) -> None:
        try:
            import wandb
        except ModuleNotFoundError:
            raise ConfigError(f"{VARIABLE}={project} needs the package wandb: pip install 'sgt_jax[wandb]'") from None
        path = workdir / _ID
        if not path.exists():
            atomic.write_text(path, uuid.uuid4().hex[:12])
        self._wandb = wandb
        self._run = wandb.init(
            project=project, name=workdir.name, id=path.read_text().strip(), resume="allow", dir=os.fspath(local)
        )

    def scalars(self, step: int, kind: str, values: Mapping[str, float]) -> None:
        """Finite numbers of a step, as "train/loss"."""
        numbers = {f"{kind}/{name}": value for name, value in values.items() if np.isfinite(value)}
        if numbers:
            self._run.log(numbers, step=step)

    def picture(self, step: int, name: str, picture: np.ndarray) -> None:
        """A picture uint8 [H, W, 3]."""
        image: Any = self._wandb.Image(picture)
        self._run.log({name: image}, step=step)

    def close(self) -> None:
        """Ends the record, when all is sent or written."""
        self._run.finish()
