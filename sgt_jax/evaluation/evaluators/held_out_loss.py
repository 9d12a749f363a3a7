"""The training objective on data that was never trained on."""

from collections.abc import Mapping
from typing import Any

from sgt_jax.evaluation.result import Items, Result, Title
from sgt_jax.evaluation.statistics import Score, compare
from sgt_jax.evaluation.subject import Params, Subject


class HeldOutLoss:
    """Cross-entropy and flow loss on fixed batches of the training mixture, drawn from held-out sources.

    Options:
      source: takes the place of every part's source; or `sources`, {part of the mixture: source}.
      batches: how many.
    """

    TITLE = Title("Loss on held-out batches")
    LABELS = {"ce": "cross-entropy per answer token", "mse": "flow loss per latent token"}

    def __init__(self, subject: Subject, options: Mapping[str, Any]) -> None:
        self._subject = subject
        self._batches = subject.held_out_batches(options.get("sources") or options["source"], options["batches"])

    def __call__(self, params: Params) -> Result:
        metrics = [self._subject.losses(params, batch, seed) for seed, batch in enumerate(self._batches)]
        return Result({name: [m[name] for m in metrics] for name in self.LABELS if name in metrics[0]})

    @staticmethod
    def scores(after: Items, before: Items | None) -> list[Score]:
        """Both losses, lower is better."""
        words = {"items": "held-out batches", "lower_is_better": True}
        return [
            compare("loss", label, after[key], before=before and before[key], **words)
            for key, label in HeldOutLoss.LABELS.items()
            if key in after
        ]
