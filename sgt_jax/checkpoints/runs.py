"""Checkpoints of a run: Orbax writes the state and every row's data iterator, atomically and in the background."""

import logging
import os
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath

from sgt_jax import trees
from sgt_jax.errors import CheckpointError
from sgt_jax.parallel import distributed

logger = logging.getLogger(__name__)


# Large arrays are stored in pieces of at most this many bytes, stacked layers apart from each other, so that one tensor
# can be read without the rest (see stored.py).
_CHUNK = 1 << 24


class RunCheckpoints:
    """The folder WORKDIR/checkpoints: numbered by step, committed by rename, the last few kept.

    A save that was killed half-way leaves a temporary folder, which Orbax ignores and removes; the one before it stays.
    """

    def __init__(self, workdir: epath.PathLike, *, keep: int = 2, asynchronous: bool = True) -> None:
        self.folder = _checkpoints(workdir)
        self.folder.mkdir(parents=True, exist_ok=True)
        options = ocp.CheckpointManagerOptions(
            max_to_keep=keep, enable_async_checkpointing=asynchronous, cleanup_tmp_directories=True
        )
        self._manager = ocp.CheckpointManager(self.folder, options=options)

    def latest(self) -> int | None:
        """Number of the newest complete checkpoint, or None."""
        return self._manager.latest_step()

    def save(self, step: int, state: Mapping[str, Any], data_state: dict[str, Any]) -> None:
        """Starts a save (waits for the one before it).

        Args:
          state: nested dicts of arrays.
          data_state: {row number as text: that row's state}.
        """
        if step in self._manager.all_steps():
            return
        self._manager.save(
            step,
            args=ocp.args.Composite(
                state=ocp.args.StandardSave(dict(state), save_args=jax.tree.map(_pieces, dict(state))),
                # All R rows, whoever reads them next.
                data=ocp.args.JsonSave(distributed.gather(data_state)),
            ),
            force=True,
        )

    def restore(self, abstract: Mapping[str, Any], step: int | None = None) -> tuple[dict[str, Any], dict[str, Any]]:
        """Reads a checkpoint (the newest by default) into the shapes, dtypes and shardings of `abstract`.

        Raises:
          CheckpointError: there is none, or it does not fit the model of this config.
        """
        step = self.latest() if step is None else step
        if step is None:
            raise CheckpointError(self.folder, "holds no complete checkpoint.", "Give the --workdir of a run.")
        try:
            found = self._manager.restore(
                step,
                args=ocp.args.Composite(state=ocp.args.StandardRestore(dict(abstract)), data=ocp.args.JsonRestore()),
            )
        except (ValueError, KeyError, TypeError, FileNotFoundError) as error:
            why = f"does not fit this config: {str(error)[:400]}."
            advice = "Was the model, the optimizer or the frozen part changed? Then use another --workdir."
            raise CheckpointError(self.folder / str(step), why, advice) from error
        return dict(found["state"]), dict(found["data"])

    def wait(self) -> None:
        """Returns when everything started is on disk."""
        self._manager.wait_until_finished()

    def close(self) -> None:
        """Finishes the saves under way and frees the threads."""
        self._manager.close()


def restore_params(workdir: epath.PathLike, weights: str = "ema", step: int | None = None) -> tuple[trees.Tree, int]:
    """Parameters of a run as NumPy arrays, without its config: `weights` is "params" or "ema" (frozen parts included).

    Raises:
      CheckpointError: no complete checkpoint there.
    """
    folder = _checkpoints(workdir)
    steps = sorted(int(p.name) for p in folder.iterdir() if p.name.isdigit()) if folder.is_dir() else []
    if not steps:
        raise CheckpointError(folder, "holds no complete checkpoint.", "Give the --workdir of a run.")
    step = steps[-1] if step is None else step
    with ocp.PyTreeCheckpointer() as reader:
        path = folder / str(step) / "state"
        # As NumPy arrays: the devices that wrote them need not be here.
        arguments = jax.tree.map(
            lambda _: ocp.RestoreArgs(restore_type=np.ndarray), reader.metadata(path).item_metadata.tree
        )
        found = reader.restore(path, restore_args=arguments)
    state = jax.tree.map(np.asarray, {key: found[key] for key in ("params", "ema")})
    if weights == "ema" and state["ema"]:
        return trees.merge(state["ema"], state["params"]), step
    return state["params"], step


def _pieces(array: jax.Array | np.ndarray) -> ocp.SaveArgs:
    return ocp.SaveArgs(chunk_byte_size=_CHUNK, shard_axes=(0,) if np.ndim(array) > 2 else ())


def _checkpoints(workdir: epath.PathLike) -> epath.Path:
    """The folder of checkpoints as an absolute path: Orbax takes no other, and says so in the middle of the first save."""
    remote = "://" in os.fspath(workdir)
    return (epath.Path(workdir) if remote else epath.Path(os.path.abspath(workdir))) / "checkpoints"
