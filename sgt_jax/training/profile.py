"""Profiles the steps that `config.profile` names, for TensorBoard or Perfetto."""

from collections.abc import Sequence
from typing import Any

import jax
from etils import epath


class Profile:
    """Traces `count` steps from step `first` on into WORKDIR/profile; nothing if there is no (first, count)."""

    def __init__(self, span: Sequence[int], workdir: epath.Path) -> None:
        """`span` is (first, count), or empty."""
        self._first, self._end = (span[0], sum(span)) if span else (None, None)
        self._folder = workdir / "profile"

    def before(self, step: int) -> None:
        """Before a step, counted from 0."""
        if step == self._first:
            jax.profiler.start_trace(str(self._folder))

    def after(self, done: int, params: Any) -> None:
        """After `done` steps; waits for the parameters when the trace ends."""
        if done == self._end:
            jax.block_until_ready(params)
            jax.profiler.stop_trace()
