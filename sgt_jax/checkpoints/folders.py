"""Where a checkpoint lies that a person names: a folder, package:NAME, hf://OWNER/NAME, a bucket; each found, or one line."""

import os

from etils import epath

from sgt_jax.assets import hub, resource
from sgt_jax.data.stored.atomic import is_remote
from sgt_jax.data.stored.places import place
from sgt_jax.errors import CheckpointError, beside, nearest

SHIPPED = "package:"
ADVICE = "Give a published folder, the --workdir of a run, package:nano, or hf://OWNER/NAME."


def folder_of(checkpoint: str | os.PathLike, advice: str = ADVICE) -> str:
    """The folder that a person means, as a path. Imports no JAX, so that a misspelt name costs no time.

    Args:
      checkpoint: a folder; "package:nano", the model that ships with sgt_jax; "hf://OWNER/NAME" on the model hub, which is
        downloaded unless it is in the cache; a work directory in a bucket.
      advice: what to do where there is none.

    Raises:
      CheckpointError: there is no such folder; the message names one that is like it.
      ConfigError: an object store whose package is not installed.
    """
    text = os.fspath(checkpoint)
    where = place(resource(text))
    if is_remote(where) or where.is_dir():
        return os.fspath(where)
    if where.exists():
        raise CheckpointError(text, "is a file and no folder.", advice)
    near = _beside(text, where)
    raise CheckpointError(text, f"is not a folder{near or hub.advice(text)}.".replace("?.", "?"), advice)


def _beside(text: str, where: epath.Path) -> str:
    if ":" not in text:
        return beside(where)
    shipped = [
        SHIPPED + path.name for path in epath.Path(resource(SHIPPED)).iterdir() if (path / "llm_config.json").exists()
    ]
    near = nearest(text, shipped)
    return near and f"; {near}"
