"""A high-level proxy with words in it: paint only the object that the instruction names."""

import numpy as np

from sgt_jax.data.examples import Example
from sgt_jax.data.proxies.registry import Painted, choice, lacks, register
from sgt_jax.errors import DataError

GROUNDS = ("black", "photo")


@register(
    "referring",
    level="high",
    needs="masks with expressions or classes",
    flat=True,
    colour=(255, 255, 255),
    ground="black",
)
def referring(example, rng, options):
    """One named object in one colour, on black or over the photo; the instruction says which.

    Expressions come from `extra["expressions"]`: pairs of a text and a mask number, or several numbers for a group.
    Without them a class stands for its masks: "the dog", "each bottle".
    """
    ground = choice("referring", options, "ground", GROUNDS)
    known = _expressions(example)
    if not known:
        raise lacks(example, "referring")
    text, mask = known[int(rng.random() * len(known))]
    target = example.image.copy() if ground == "photo" else np.zeros_like(example.image)
    target[mask] = options["colour"]
    return Painted(example.image, target, {"object": text}, flat=ground == "black")


def _expressions(example: Example) -> list[tuple[str, np.ndarray]]:
    """Every expression with the pixels that it means; nothing that cannot be seen is asked for."""
    if example.masks is None:
        return []
    if "expressions" in example.extra:
        pairs = [(text, np.atleast_1d(numbers)) for text, numbers in example.extra["expressions"]]
    else:
        names = np.array(example.classes or (), str)
        pairs = [(name, np.flatnonzero(names == name)) for name in dict.fromkeys(names.tolist())]
        pairs = [(("each " if len(numbers) > 1 else "the ") + name, numbers) for name, numbers in pairs]
    found = []
    for text, numbers in pairs:
        if min(numbers) < 0 or max(numbers) >= len(example.masks):
            raise DataError(
                f"{example.name}: the expression {text!r} names mask {max(numbers)}, there are {len(example.masks)}"
            )
        mask = example.masks[np.asarray(numbers)].any(0)
        if mask.any():
            found.append((text, mask))
    return found
