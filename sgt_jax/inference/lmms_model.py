"""Our models behind lmms-eval's interface. Importing this module needs lmms_eval; `lmms_plugin` names it."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from lmms_eval.api.model import lmms

from sgt_jax.data.pictures.reading import load_rgb, to_rgb
from sgt_jax.errors import DataError
from sgt_jax.inference import load
from sgt_jax.inference.assistant import CHAT_PIXELS

MOST_TOKENS = 4096


class SgtJax(lmms):
    """A checkpoint of ours, greedy, pictures through the understanding encoder alone.

    Args:
      pretrained: a published folder, the work directory of a run, or package:nano.
      base, weights, dtype: as in `inference.load.load`.
      batch_size: requests at a time.
      device: ignored; JAX chooses it.
    """

    is_simple = False

    def __init__(
        self, pretrained: str = "package:nano", batch_size: int | str = 8, base: str | None = None, weights: str = "ema",
        dtype: str | None = None, device: str | None = None, **others: Any,
    ) -> None:  # fmt: skip
        super().__init__()
        if unknown := {k for k, v in others.items() if v is not None and k not in ("max_batch_size",)}:
            raise DataError(f"--model_args of sgt_jax has no {', '.join(sorted(unknown))}; see docs/benchmarks.md")
        self._batch = 8 if batch_size == "auto" else int(batch_size)
        self._assistant = load.load(pretrained, base=base, weights=weights, dtype=dtype)

    def generate_until(self, requests: Sequence[Any]) -> list[str]:
        """The answers to requests, in their order; requests with one length limit share batches."""
        out: list[str] = [""] * len(requests)
        by_limit: dict[int, list[int]] = {}
        for number, request in enumerate(requests):
            settings = request.args[2]
            if float(settings.get("temperature") or 0) > 0:
                raise DataError("sgt_jax answers greedily; set temperature=0 in --gen_kwargs")
            by_limit.setdefault(min(int(settings.get("max_new_tokens") or 1024), MOST_TOKENS), []).append(number)
        for limit, numbers in sorted(by_limit.items()):
            plans = [self._plan(requests[number]) for number in numbers]
            texts = self._assistant.sampler(()).answer(
                self._assistant.params, plans, max_new_tokens=limit, batch=self._batch
            )
            for number, text in zip(numbers, texts):
                out[number] = cut(text, requests[number].args[2].get("until"))
        return out

    def _plan(self, request: Any) -> list[Any]:
        _, doc_to_messages, _, doc_id, task, split = request.args
        history = history_of(doc_to_messages(self.task_dict[task][split][doc_id]))
        return self._assistant._plan(history, self._assistant.defaults["chat"], vae=False, max_pixels=CHAT_PIXELS)

    def loglikelihood(self, requests: Sequence[Any]) -> list[tuple[float, bool]]:
        """Not offered: our benchmarks generate."""
        raise NotImplementedError("sgt_jax generates; choose a task of type generate_until")

    def generate_until_multi_round(self, requests: Sequence[Any]) -> list[str]:
        """Not offered."""
        raise NotImplementedError("sgt_jax answers one round; choose a task of type generate_until")


def history_of(messages: Sequence[Mapping[str, Any]]) -> list[str | np.ndarray]:
    """Texts and pictures of chat messages in the order in which they are read.

    Raises:
      DataError: a video or a sound.
    """
    history: list[str | np.ndarray] = []
    for message in messages:
        content = message["content"]
        for part in [{"type": "text", "text": content}] if isinstance(content, str) else content:
            if part["type"] == "text":
                if part["text"].strip():
                    history.append(part["text"])
            elif part["type"] == "image":
                history.append(load_rgb(part["url"]) if isinstance(part["url"], str) else to_rgb(part["url"]))
            else:
                raise DataError(f"sgt_jax reads texts and pictures, not a {part['type']}; choose another task")
    return history


def cut(text: str, until: str | Sequence[str] | None) -> str:
    """The text before the first of the words that end it."""
    for word in [until] if isinstance(until, str) else until or ():
        if word:
            text = text.split(word)[0]
    return text
