"""Procedural scenes with their quarters shuffled, and the question where each of them belongs."""

import dataclasses

import numpy as np

from sgt_jax.data.examples import Example, Turn
from sgt_jax.data.proxies.jigsaw import shuffled
from sgt_jax.data.sources.scenes.source import Scenes

PLACES = ("topleft", "topright", "bottomleft", "bottomright")
KIND = "jigsaw"
QUESTION = "what is the order of the squares ?"


class Puzzles(Scenes):
    """Scenes whose quarters lie in one of 24 orders; the answer names the place of each, in the order in which they lie.

    Options are those of `Scenes`. There is this one question, whatever `turns` says: what a scene's own questions ask lies
    elsewhere in a shuffled picture. Masks and depth are left out for the same reason.
    """

    def example(self, i: int, rng: np.random.Generator | None = None) -> Example:
        """Record i. Its order comes from `rng`, by default i's own."""
        whole = super().example(i)
        if rng is None or self.fixed:
            rng = np.random.default_rng((2, self.seed, self._number(i)))
        order = rng.permutation(len(PLACES))
        answer = " ".join(PLACES[k] for k in order)
        turns = (Turn("user", f"<image>\n{QUESTION}"), Turn("assistant", answer))
        image, extra = shuffled(whole.image, order), whole.extra | {"kinds": (KIND,)}
        return dataclasses.replace(whole, image=image, masks=None, depth=None, turns=turns, kind=KIND, extra=extra)
