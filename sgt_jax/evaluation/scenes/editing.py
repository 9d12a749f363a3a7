"""Judges an edited picture of a procedural scene: did what was asked for change, and did everything else stay?"""

from collections.abc import Sequence

import numpy as np

from sgt_jax.data.sources.scenes.edits import Change
from sgt_jax.data.sources.scenes.world import Scene
from sgt_jax.evaluation.rules.geneval import Thing
from sgt_jax.evaluation.scenes import oracle

NEAR = 0.12  # of the side: an object may have moved so far and still be the same one


def judge_edit(before: Scene, change: Change, after: Scene, picture: np.ndarray | Sequence[Thing]) -> dict[str, bool]:
    """Compares a picture with the scene that it should show.

    Args:
      before, change, after: the scene, the edit (not a copy) and the scene after it.
      picture: uint8 [S, S, 3], or what `scene_oracle.parse` made of it.

    Returns:
      changed: where the object was, there is now one of the wanted colour and shape, or none if it was to go.
      kept: every other object is still there, at its place, in colour and shape, and there is nothing new.
      exact: both.
    """
    if isinstance(picture, np.ndarray):
        rotations = sorted({0.0, *(o.rotation for o in before.objects)})
        picture = oracle.parse(picture, before.colours, before.shapes, rotations)
    old = before.objects[change.number]
    new = change.replacement[change.number]
    left = list(picture)

    def take(colour: str, shape: str, x: float, y: float) -> bool:
        """Whether such a thing is there; it is then used up."""
        near = [t for t in left if (t.colour, t.shape) == (colour, shape) and np.hypot(t.x - x, t.y - y) <= NEAR]
        if near:
            left.remove(min(near, key=lambda t: np.hypot(t.x - x, t.y - y)))
        return bool(near)

    others = [o for n, o in enumerate(before.objects) if n != change.number]
    kept = all([take(o.colour, o.shape, o.x, o.y) for o in others])
    if new is None:
        changed = not any(np.hypot(t.x - old.x, t.y - old.y) <= NEAR for t in left)
    else:
        changed = take(new.colour, new.shape, new.x, new.y)
    # What is left over is new, or the object itself in a wrong form, which is no fault of the rest.
    strange = [t for t in left if np.hypot(t.x - old.x, t.y - old.y) > NEAR]
    kept = kept and not strange
    return {"changed": changed, "kept": kept, "exact": changed and kept and len(picture) == len(after.objects)}
