"""The first examples of a held-out source, which may refuse some."""

from collections.abc import Callable, Sequence

from absl import logging

from sgt_jax.data.examples import Example
from sgt_jax.errors import DataError


def first(
    source: Sequence[Example], n: int, on_bad: str = "error", wanted: Callable[[Example], bool] = lambda example: True
) -> tuple[list[Example], int]:
    """The first n examples that are wanted, or all where there are fewer, and how many were passed over.

    Args:
      source: the examples.
      n: how many.
      on_bad: "error", or "skip": examples that the source refuses, such as scenes that fit none of its kinds of questions,
        are passed over and counted.
      wanted: others are left out, and not counted.

    Raises:
      DataError: the source refuses an example, and on_bad is "error".
    """
    examples: list[Example] = []
    passed_over = 0
    for i in range(len(source)):
        if len(examples) == n:
            break
        try:
            example = source[i]
        except DataError:
            if on_bad != "skip":
                raise
            passed_over += 1
            continue
        if wanted(example):
            examples.append(example)
    return examples, passed_over


def tell(passed_over: int, name: str, taken: int) -> None:
    """Logs how many examples of a source were passed over."""
    if passed_over:
        logging.warning("%d examples of source '%s' passed over, which it refuses; %d are taken", passed_over, name, taken)
