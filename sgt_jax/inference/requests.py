"""A list of different requests in one go, such as the lines of a file; a server asks the same engine.

Requests that paint pictures of one size in the same way share batches; every one has its own history and seed, and its result
does not depend on which others stand beside it.
"""

from collections.abc import Sequence

from sgt_jax.inference import writing
from sgt_jax.inference.assistant import Assistant
from sgt_jax.inference.engine import Engine, Limits
from sgt_jax.inference.jobs import Request
from sgt_jax.inference.results import Painting

__all__ = ["Request", "answer", "paint"]


def paint(assistant: Assistant, requests: Sequence[Request], batch: int = 8) -> list[Painting]:
    """A painting for each request, in their order; `batch` pictures are painted at a time.

    Raises:
      DataError: a request is empty, or for a size that the model does not paint.
    """
    engine = Engine(assistant, Limits(pictures=max(min(batch, len(requests)), 1)))
    return [Painting(result.picture) for result in engine.run(requests)]


def answer(assistant: Assistant, requests: Sequence[Request], *, batch: int = 8) -> list[str]:
    """A text for each request, in their order; `batch` texts are written at a time, with room for what each may write."""
    lengths = [writing.lengths(writing.lay_out(assistant, request)) for request in requests]
    room = max(max(length) + request.max_new_tokens for length, request in zip(lengths, requests, strict=True)) + 2
    batch = max(min(batch, len(requests)), 1)
    engine = Engine(assistant, Limits(slots=batch, prefill=batch, context=room))
    return [assistant.tokenizer.decode(result.ids) for result in engine.run(requests)]
