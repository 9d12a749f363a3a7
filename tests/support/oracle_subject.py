"""A subject without a model: it knows the right reply to every plan about scenes, and may mix the replies up."""

import numpy as np

from sgt_jax.data.pictures.resizing import ResizeRule
from sgt_jax.data.tasks import make_task
from sgt_jax.data.text.tokenizer import Tokenizer

TOKENIZER = Tokenizer.nano()


class OracleSubject:
    """Stands in for a model: `evaluation.subject.Subject` from the sources of configs/study/first_bed.py.

    Attributes:
      plans: those of the last call.
    """

    canvases = ((32, 32),)

    def __init__(self, sources, order=None):
        """`sources`: {name: source}; `order`: a generator that mixes up the replies of each call."""
        self._sources, self._order = sources, order
        self.plans = ()

    def source(self, name):
        return self._sources[name]

    def task(self, spec):
        return make_task(spec, encode=TOKENIZER.encode, vit_size=ResizeRule(8, 32, 32), canvases=self.canvases)

    def slots(self, plan):
        return {"text": sum(len(item.data) for item in plan if item.type == "text")}

    def answer(self, params, plans, *, max_new_tokens, batch, budgets=None):
        """Yes or no to POPE's questions, by the scene in the picture; to all others the answer that the source gives."""
        self.plans, held_out = plans, self._sources["held_out"]
        examples = {e.image.tobytes(): e for e in (held_out[i] for i in range(60))}

        def one(plan):
            example, words = examples[plan[0].data.tobytes()], TOKENIZER.decode(plan[1].data).split()
            if words[:3] == ["is", "there", "a"]:
                looks = {(o.colour, o.shape) for o in example.extra["scene"].objects}
                return "yes" if tuple(words[3:5]) in looks else "no"
            return example.turns[1].text

        return self._mixed([one(plan) for plan in plans])

    def paint(self, params, plans, shape, *, seeds, steps, shift, batch, text_scale):
        """The edited picture of an edit, the map of a photo, or a scene of a caption."""
        self.plans = plans
        edits, held_out = self._sources["held_out_edits"], [self._sources["held_out"][i] for i in range(60)]
        targets = {(e.image.tobytes(), e.edit.request): e.edit.target for e in (edits[i] for i in range(200))}
        targets |= {(None, e.caption): e.image for e in held_out}
        rng = np.random.default_rng(0)
        segment = self.task({"task": "proxy", "proxy": "segmentation", "options": {"style": "plain"}})
        for e in held_out:
            pair = segment.pair(e, rng)
            targets[e.image.tobytes(), pair.instruction] = pair.target

        def one(plan):
            picture = None if plan[0].type == "text" else plan[0].data.tobytes()
            return targets[picture, TOKENIZER.decode(plan[-1].data)]

        return np.stack(self._mixed([one(plan) for plan in plans]))

    def through_autoencoder(self, params, pictures, batch=64):
        """A perfect autoencoder, but for the last bit."""
        return np.stack(pictures) ^ np.uint8(1)

    def held_out_batches(self, source, count):
        return [{"number": i} for i in range(count)]

    def losses(self, params, batch, seed):
        return {"ce": 2.0 + batch["number"] + seed, "loss": 9.0}

    def _mixed(self, replies):
        return replies if self._order is None else [replies[k] for k in self._order.permutation(len(replies))]
