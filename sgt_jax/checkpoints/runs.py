"""Checkpoints of a run: Orbax writes the state and every row's data iterator, atomically and in the background."""

import contextlib
import logging
import os
import shutil
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath

from sgt_jax import trees
from sgt_jax.data.stored.atomic import is_remote
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
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            why = f"cannot be made ({error.strerror or 'a file is in its place'})."
            raise CheckpointError(self.folder, why, "Choose another --workdir.") from None
        options = ocp.CheckpointManagerOptions(
            max_to_keep=keep, enable_async_checkpointing=asynchronous, cleanup_tmp_directories=True
        )
        self._manager = ocp.CheckpointManager(self.folder, options=options)
        self._saving: int | None = None

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
        self.wait()
        self.check_space(state)
        data = distributed.gather(data_state)  # of all R rows, whoever reads them next
        self._saving = step
        with self._told():
            self._manager.save(
                step,
                args=ocp.args.Composite(
                    state=ocp.args.StandardSave(dict(state), save_args=jax.tree.map(_pieces, dict(state))),
                    data=ocp.args.JsonSave(data),
                ),
                force=True,
            )

    def check_space(self, state: Mapping[str, Any]) -> None:
        """Raises a CheckpointError if the disk cannot take this state (arrays or shapes); object stores are not asked."""
        if is_remote(self.folder):
            return
        needed, free = (
            sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(state)),
            shutil.disk_usage(self.folder).free,
        )
        if free < needed:
            why = f"a save takes up to {needed / 1e9:.3f} GB, and the disk has {free / 1e9:.3f} GB free."
            raise CheckpointError(self.folder, why, f"Free some space; {self._newest()}.")

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """Errors of writing, in one line; Orbax and TensorStore raise theirs as many types."""
        try:
            yield
        except (OSError, ValueError, RuntimeError) as error:
            if isinstance(error, CheckpointError | jax.errors.JaxRuntimeError):
                raise
            why = f"could not be written ({_cause(error)})."
            raise CheckpointError(self.folder / str(self._saving), why, f"Check the disk; {self._newest()}.") from error

    def _newest(self, but: int | None = None) -> str:
        """What the same command does next."""
        steps = [] if not self.folder.is_dir() else _complete(self.folder)
        steps = [step for step in steps if step != but]
        return f"the same command resumes from step {steps[-1]}" if steps else "no complete save is there yet"

    def restore(self, abstract: Mapping[str, Any], step: int | None = None) -> tuple[dict[str, Any], dict[str, Any]]:
        """Reads a checkpoint (the newest by default) into the shapes, dtypes and shardings of `abstract`.

        Raises:
          CheckpointError: there is none, or it does not fit the model of this config.
        """
        found = self._read(step, state=ocp.args.StandardRestore(dict(abstract)), data=ocp.args.JsonRestore())
        return dict(found["state"]), dict(found["data"])

    def restore_data(self, step: int | None = None) -> dict[str, Any]:
        """The `data_state` of a checkpoint (the newest by default) alone. Raises as `restore` does."""
        return dict(self._read(step, data=ocp.args.JsonRestore())["data"])

    def _read(self, step: int | None, **what: Any) -> Any:
        step = self.latest() if step is None else step
        if step is None:
            raise CheckpointError(self.folder, "holds no complete checkpoint.", "Give the --workdir of a run.")
        try:
            return self._manager.restore(step, args=ocp.args.Composite(**what))
        except (jax.errors.JaxRuntimeError, MemoryError):
            raise
        except Exception as error:  # Orbax and TensorStore raise many types, bare Exception among them
            raise CheckpointError(self.folder / str(step), *self._unreadable(step, error)) from error

    def _unreadable(self, step: int, error: Exception) -> tuple[str, str]:
        """What is wrong with a checkpoint, and what to do."""
        why = f"is damaged, or does not fit this config ({_cause(error)})."
        aside = self.folder.parent / f"damaged_{step}"
        return why, f"Put it aside (mv {self.folder / str(step)} {aside}); then {self._newest(but=step)}."

    def wait(self) -> None:
        """Returns when everything started is on disk.

        Raises:
          CheckpointError: it could not be written.
        """
        with self._told():
            self._manager.wait_until_finished()

    def close(self) -> None:
        """Finishes the saves under way and frees the threads. Raises as `wait` does."""
        try:
            self.wait()
        finally:
            with contextlib.suppress(Exception):  # told by wait
                self._manager.close()

    def __enter__(self) -> "RunCheckpoints":
        return self

    def __exit__(self, kind: Any, error: BaseException | None, _: Any) -> None:
        try:
            self.close()
        except CheckpointError as second:
            if error is None:
                raise
            logger.warning("%s", second)  # what came first is the reason


def restore_params(workdir: epath.PathLike, weights: str = "ema", step: int | None = None) -> tuple[trees.Tree, int]:
    """Parameters of a run as NumPy arrays, without its config: `weights` is "params" or "ema" (frozen parts included).

    Raises:
      CheckpointError: no complete checkpoint there.
    """
    folder = _checkpoints(workdir)
    steps = _complete(folder) if folder.is_dir() else []
    if not steps:
        raise CheckpointError(folder, "holds no complete checkpoint.", "Give the --workdir of a run.")
    step = steps[-1] if step is None else step
    path = folder / str(step) / "state"
    try:
        with _unwarned(), ocp.PyTreeCheckpointer() as reader:
            # As NumPy arrays: the devices that wrote them need not be here.
            arguments = jax.tree.map(
                lambda _: ocp.RestoreArgs(restore_type=np.ndarray), reader.metadata(path).item_metadata.tree
            )
            found = reader.restore(path, restore_args=arguments)
    except Exception as error:  # as in restore
        others = f"; step {steps[-2]} is there, too" if len(steps) > 1 else ""
        advice = f"Put {folder / str(step)} aside{others}."
        raise CheckpointError(path, f"is damaged ({_cause(error)}).", advice) from error
    state = jax.tree.map(np.asarray, {key: found[key] for key in ("params", "ema")})
    if weights == "ema" and state["ema"]:
        return trees.merge(state["ema"], state["params"]), step
    return state["params"], step


@contextlib.contextmanager
def _unwarned() -> Iterator[None]:
    """Without Orbax's warning of a file that only whole states have: nobody can do anything about it."""
    told = logging.getLogger("absl")
    before = told.level
    told.setLevel(logging.ERROR)
    try:
        yield
    finally:
        told.setLevel(before)


def _complete(folder: epath.Path) -> list[int]:
    """Numbers of the complete checkpoints in a folder; unfinished ones have longer names."""
    return sorted(int(p.name) for p in folder.iterdir() if p.name.isdigit())


def _cause(error: BaseException) -> str:
    """The first words of an error of the libraries below, on one line."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 200 else text[:200] + "..."


def _pieces(array: jax.Array | np.ndarray) -> ocp.SaveArgs:
    return ocp.SaveArgs(chunk_byte_size=_CHUNK, shard_axes=(0,) if np.ndim(array) > 2 else ())


def _checkpoints(workdir: epath.PathLike) -> epath.Path:
    """The folder of checkpoints as an absolute path: Orbax takes no other, and says so in the middle of the first save."""
    remote = "://" in os.fspath(workdir)
    return (epath.Path(workdir) if remote else epath.Path(os.path.abspath(workdir))) / "checkpoints"
