"""Questions about a procedural scene with their true answers, one small function a kind.

Answers are one word. A question is asked only if the picture settles it: objects are called by a colour or shape that
only they have, and relations need a margin.
"""

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

from sgt_jax.data.sources.scenes.phrases import (
    MARGIN,
    NUMBERS,
    RELATIONS,
    holding_relations,
    pick,
    plural,
    with_article,
)
from sgt_jax.data.sources.scenes.world import Scene, SceneObject
from sgt_jax.errors import ConfigError

QUADRANT_MARGIN = 0.06  # from the middle lines
AREA_MARGIN = 1.5  # times: the least ratio of areas for "largest"

Pair = tuple[str, str]  # question, answer
Ask = Callable[[Scene, np.random.Generator], Pair | None]

KINDS: dict[str, Ask] = {}  # asked unless a source names others
HARD_KINDS: dict[str, Ask] = {}  # asked only where a source names them

# How eagerly a kind is chosen where it fits. Those that need two objects fit less often and are learnt last.
WEIGHTS: dict[str, float] = {}


def _kind(name: str, weight: float = 1.0, hard: bool = False):
    def register(ask):
        (HARD_KINDS if hard else KINDS)[name], WEIGHTS[name] = ask, weight
        return ask

    return register


def _names(scene: Scene, o: SceneObject) -> list[str]:
    """The ways to call an object that fit no other object of the scene."""
    names = []
    if sum(p.colour == o.colour for p in scene.objects) == 1:
        names.append(f"the {o.colour} object")
    if sum(p.shape == o.shape for p in scene.objects) == 1:
        names.append(f"the {o.shape}")
    if not names and sum((p.shape, p.colour) == (o.shape, o.colour) for p in scene.objects) == 1:
        names.append(f"the {o.colour} {o.shape}")
    return names


def _named(scene: Scene, rng: np.random.Generator, objects=None) -> tuple[SceneObject, str] | None:
    """A random object (of `objects`) that has a name of its own, and one such name."""
    candidates = [(o, names) for o in objects or scene.objects if (names := _names(scene, o))]
    chosen = pick(rng, candidates)
    return None if chosen is None else (chosen[0], pick(rng, chosen[1]))


def _pairs(scene: Scene, rng: np.random.Generator, fits: Callable) -> list[tuple]:
    """Ordered pairs that fit, in random order."""
    found = [(a, b) for a in scene.objects for b in scene.objects if a is not b and fits(a, b)]
    return [found[k] for k in rng.permutation(len(found))]


def _relation(scene: Scene, rng, fits: Callable, form: str, answer: Callable) -> Pair | None:
    """A question about two objects that `fits`; `form` takes their names, `answer` the objects."""
    for a, b in _pairs(scene, rng, fits):
        first, second = pick(rng, _names(scene, a)), pick(rng, _names(scene, b))
        if first and second:
            return form.format(first, second), answer(a, b)
    return None


@_kind("exists")
def _exists(scene, rng):
    """Half the time absent, then mostly a near miss: a colour or a shape that is there, but not together."""
    present = {(o.colour, o.shape) for o in scene.objects}
    there = pick(rng, scene.objects)
    if rng.random() < 0.5:
        return f"is there {with_article(f'{there.colour} {there.shape}')} ?", "yes"
    absent = [(c, s) for c in scene.colours for s in scene.shapes if (c, s) not in present]
    near = [(c, s) for c, s in absent if (c == there.colour) != (s == there.shape)]
    colour, shape = pick(rng, near if near and rng.random() < 0.75 else absent) or (None, None)
    return None if colour is None else (f"is there {with_article(f'{colour} {shape}')} ?", "no")


@_kind("count")
def _count(scene, rng):
    return "how many objects are there ?", NUMBERS[len(scene.objects)]


@_kind("count_shape")
def _count_shape(scene, rng):
    shape = pick(rng, scene.objects).shape if rng.random() < 0.5 else pick(rng, scene.shapes)
    return f"how many {plural(shape)} are there ?", NUMBERS[sum(o.shape == shape for o in scene.objects)]


@_kind("count_colour")
def _count_colour(scene, rng):
    colour = pick(rng, scene.objects).colour if rng.random() < 0.6 else pick(rng, scene.colours)
    return f"how many {colour} objects are there ?", NUMBERS[sum(o.colour == colour for o in scene.objects)]


@_kind("colour_of")
def _colour_of(scene, rng):
    shapes = Counter(o.shape for o in scene.objects)
    o = pick(rng, [o for o in scene.objects if shapes[o.shape] == 1])
    return None if o is None else (f"what colour is the {o.shape} ?", o.colour)


@_kind("shape_of")
def _shape_of(scene, rng):
    colours = Counter(o.colour for o in scene.objects)
    o = pick(rng, [o for o in scene.objects if colours[o.colour] == 1])
    return None if o is None else (f"what shape is the {o.colour} object ?", o.shape)


@_kind("verify")
def _verify(scene, rng):
    """Yes or no about one attribute of one object, called by the other attribute."""
    by_colour = rng.random() < 0.5
    question, answer = (_shape_of if by_colour else _colour_of)(scene, rng) or (None, None)
    if question is None:
        return None
    others = [x for x in (scene.shapes if by_colour else scene.colours) if x != answer]
    true = rng.random() < 0.5 or not others
    claim = answer if true else pick(rng, others)
    thing = question.split(" is ", 1)[1].removesuffix(" ?")
    return f"is {thing} {with_article(claim) if by_colour else claim} ?", "yes" if true else "no"


@_kind("left_right", 4.0)
def _left_right(scene, rng):
    return _relation(
        scene,
        rng,
        lambda a, b: abs(a.x - b.x) >= MARGIN,
        "is {} left or right of {} ?",
        lambda a, b: "left" if a.x < b.x else "right",
    )


@_kind("above_below", 4.0)
def _above_below(scene, rng):
    return _relation(
        scene,
        rng,
        lambda a, b: abs(a.y - b.y) >= MARGIN,
        "is {} above or below {} ?",
        lambda a, b: "above" if a.y < b.y else "below",
    )


@_kind("nearer", 4.0)
def _nearer(scene, rng):
    """Only for pairs whose overlap shows which one is in front."""
    covers = {frozenset((id(scene.objects[i]), id(scene.objects[j]))) for i, j in scene.covers}
    return _relation(
        scene,
        rng,
        lambda a, b: frozenset((id(a), id(b))) in covers,
        "is {} in front of or behind {} ?",
        lambda a, b: "front" if a.depth < b.depth else "behind",
    )


@_kind("larger", 4.0)
def _larger(scene, rng):
    if len(scene.objects) < 2:
        return None
    ends = {"largest": max, "smallest": min}
    word = pick(rng, tuple(ends))
    o = ends[word](scene.objects, key=lambda p: p.area)
    # Both as drawn and as seen, so that an occluded object is no trap.
    for p in scene.objects:
        big, small = (o, p) if word == "largest" else (p, o)
        if p is not o and (big.area < AREA_MARGIN * small.area or big.visible < AREA_MARGIN * small.visible):
            return None
    return f"what colour is the {word} object ?", o.colour


@_kind("size")
def _size(scene, rng):
    if {o.size for o in scene.objects} - {"small", "large"}:
        return None
    found = _named(scene, rng)
    return None if found is None else (f"is {found[1]} small or large ?", found[0].size)


@_kind("quadrant", 3.0)
def _quadrant(scene, rng):
    clear = [o for o in scene.objects if min(abs(o.x - 0.5), abs(o.y - 0.5)) >= QUADRANT_MARGIN]
    found = _named(scene, rng, clear) if clear else None
    if found is None:
        return None
    o, name = found
    return f"where is {name} ?", ("top" if o.y < 0.5 else "bottom") + ("left" if o.x < 0.5 else "right")


def _outermost_object(scene, rng, words, place) -> tuple[SceneObject, str] | None:
    if len(scene.objects) < 2:
        return None
    word = pick(rng, words)
    ordered = sorted(scene.objects, key=place, reverse=word == words[1])
    return None if abs(place(ordered[0]) - place(ordered[1])) < MARGIN else (ordered[0], word)


def _outermost(scene, rng, words, place):
    o, word = _outermost_object(scene, rng, words, place) or (None, None)
    return None if o is None else (f"what colour is the {word} object ?", o.colour)


@_kind("leftmost", 4.0)
def _leftmost(scene, rng):
    return _outermost(scene, rng, ("leftmost", "rightmost"), lambda o: o.x)


@_kind("highest", 4.0)
def _highest(scene, rng):
    return _outermost(scene, rng, ("highest", "lowest"), lambda o: o.y)


@_kind("more")
def _more(scene, rng):
    """Compares the numbers of two shapes; at least one of them is there."""
    first = pick(rng, scene.objects).shape
    second = pick(rng, [s for s in scene.shapes if s != first])
    if second is None:
        return None
    if rng.random() < 0.5:
        first, second = second, first
    number = Counter(o.shape for o in scene.objects)
    answer = "yes" if number[first] > number[second] else "no"
    return f"are there more {plural(first)} than {plural(second)} ?", answer


@_kind("pattern")
def _pattern(scene, rng):
    """Only where something is patterned, so that 'plain' is not the answer nearly always."""
    if all(o.pattern == "plain" for o in scene.objects):
        return None
    found = _named(scene, rng)
    return None if found is None else (f"is {found[1]} plain or striped or dotted ?", found[0].pattern)


@_kind("shape_outermost", 2.0, hard=True)
def _shape_outermost(scene, rng):
    """Place, then shape: two steps where "leftmost" and "highest" need one and a colour."""
    words, place = pick(rng, ((("leftmost", "rightmost"), lambda o: o.x), (("highest", "lowest"), lambda o: o.y)))
    o, word = _outermost_object(scene, rng, words, place) or (None, None)
    return None if o is None else (f"what shape is the {word} object ?", o.shape)


@_kind("count_beside", 2.0, hard=True)
def _count_beside(scene, rng):
    """Only where no object lies so near the dividing line that the picture leaves it open."""
    found = []
    for o in scene.objects:
        for relation in RELATIONS:
            others = [holding_relations(p.x, p.y, o.x, o.y) for p in scene.objects if p is not o]
            axis = RELATIONS[:2] if relation in RELATIONS[:2] else RELATIONS[2:]
            if others and all(set(holds) & set(axis) for holds in others):
                found += [(name, relation, sum(relation in holds for holds in others)) for name in _names(scene, o)]
    name, relation, n = pick(rng, found) or (None, None, None)
    return None if name is None else (f"how many objects are {relation} {name} ?", NUMBERS[n])


@_kind("arithmetic", hard=True)
def _arithmetic(scene, rng):
    """Has nothing to do with the picture: what a model knows and reasons, apart from what it sees."""
    steps = [int(rng.integers(1, 5)) * (1 if rng.random() < 0.5 else -1) for _ in range(2)]
    lowest = max(0, -steps[1], -steps[0] - steps[1])
    highest = min(8, 8 - steps[1], 8 - steps[0] - steps[1])
    if lowest > highest:
        return _arithmetic(scene, rng)
    start = int(rng.integers(lowest, highest + 1))
    words = [f"{NUMBERS[abs(step)]} {'more' if step > 0 else 'fewer'} than" for step in steps]
    return f"how many is {' '.join(words)} {NUMBERS[start]} ?", NUMBERS[start + sum(steps)]


def question_answers(
    scene: Scene, rng: np.random.Generator, n: int, kinds: Sequence[str] | None = None
) -> list[tuple[str, str, str]]:
    """Up to `n` distinct (kind, question, answer), spread over the kinds that fit the scene.

    Fewer come back only if the scene admits no more, and none if no kind fits.
    """
    known = KINDS | HARD_KINDS
    names = list(KINDS) if kinds is None else list(kinds)
    if unknown := [k for k in names if k not in known]:
        raise ConfigError(f"unknown kinds of questions {unknown}; choose from {', '.join(known)}")
    weights = np.array([WEIGHTS[k] for k in names])
    found: list[tuple[str, str, str]] = []
    asked: set[str] = set()
    for _ in range(4 + n):  # rounds over the kinds: a later round asks another question of a kind
        # Exponential draws over weights sort into a weighted order without replacement.
        for k in np.argsort(rng.standard_exponential(len(names)) / weights):
            if len(found) == n:
                return found
            pair = known[names[k]](scene, rng)
            if pair is not None and pair[0] not in asked:
                asked.add(pair[0])
                found.append((names[k], *pair))
    return found
