"""Procedural scenes: any number of pictures with exact masks, depth, captions and questions, without a download.

`Scenes` is a random-access source: record i is a pure function of (seed, split, i). The splits are disjoint
ranges of one index space, so no held-out scene is ever a training scene. Defaults are the regime that a nano
model learns in minutes (32 px, one or two objects, all equally common). Harder ones have up to four objects, more kinds of
questions, captions without colours, and a world in which some objects are common and some occur together (`prior`,
`company`): there a model can come to expect objects that are not in the picture.
"""

import dataclasses
import threading
from collections.abc import Mapping, Sequence

import numpy as np

from sgt_jax.data.examples import Edit, Example, Turn
from sgt_jax.data.sources.scenes import drawing
from sgt_jax.data.sources.scenes import edits as scenes_edits
from sgt_jax.data.sources.scenes.captions import caption
from sgt_jax.data.sources.scenes.questions import HARD_KINDS, KINDS, question_answers
from sgt_jax.data.sources.scenes.world import Scene, SceneObject, ranked_classes
from sgt_jax.errors import DataError, hint

# Where each split begins in the one space of scene numbers; a split can hold 2**40 scenes.
SPLITS = {"train": 0, "validation": 2**40, "test": 2**41}
NANO_SIZES = {"small": (0.13, 0.17), "large": (0.21, 0.27)}
NANO_COLOURS = ("red", "green", "blue", "yellow", "purple", "cyan", "white")
NANO_SHAPES = ("circle", "square", "triangle")
BACKGROUND_DEPTH = 5.0
MIN_VISIBLE = 0.5  # of every object's area: less than that and its shape is a guess
MIN_HIDDEN = 0.05  # of the farther object's area, before "in front of" can be seen
CACHE_BYTES = 256 * 2**20


class Scenes:
    """A source of procedural scenes; see the module docstring.

    Args:
      seed: scenes of different seeds have nothing in common.
      size: pixels per side.
      num: number of scenes.
      split: "train", "validation" or "test".
      min_objects, max_objects: the number of objects is uniform between them.
      shapes, colours: names from `scene_drawing.SHAPES` and `.COLOURS`.
      sizes: name -> (smallest, largest) radius as a fraction of the side.
      pattern_rate: chance of an object being striped or dotted instead of plain.
      max_overlap: how deep two objects may overlap, as a fraction of the sum of their radii.
      max_rotation: objects are turned by up to so many degrees either way.
      prior: how uneven the world is: the r-th commonest (colour, shape) has the weight (1 + r) ** -prior; 0 is even.
      company: chance of a further object being the one that goes with an object already there.
      turns: question-answer pairs per record.
      kinds: kinds of questions to choose from; None means all of KINDS.
      colourless: chance of a caption that names shapes alone.
      edits: kinds of edits, from `scene_edits.EDITS`; each record then carries one.
      fixed: a record has the same caption and questions in every epoch, so that `num` bounds the answers, too.
      strange_masks: masks and depth are those of another scene of the source: a proxy's targets then have the same
        pixels as a whole, and say nothing about the picture that is shown.
      cache: keep rendered scenes in memory (up to 256 MiB), since training reads a scene many times.
    """

    def __init__(
        self,
        *,
        seed: int = 0,
        size: int = 32,
        num: int = 10_000,
        split: str = "train",
        min_objects: int = 1,
        max_objects: int = 2,
        shapes: Sequence[str] = NANO_SHAPES,
        colours: Sequence[str] = NANO_COLOURS,
        sizes: Mapping[str, tuple[float, float]] | None = None,
        pattern_rate: float = 0.1,
        max_overlap: float = 0.25,
        max_rotation: float = 0.0,
        prior: float = 0.0,
        company: float = 0.0,
        turns: int = 1,
        kinds: Sequence[str] | None = None,
        colourless: float = 0.0,
        edits: Sequence[str] = (),
        fixed: bool = False,
        strange_masks: bool = False,
        cache: bool = True,
    ):
        if split not in SPLITS:
            raise DataError(f"scenes: no split {split!r}; {hint(split, SPLITS, 'choose one of')}")
        if not 0 <= seed < 2**32:
            raise DataError(f"scenes: seed={seed} must lie between 0 and 2**32 - 1")
        if not 0 < num <= 2**40:
            raise DataError(f"scenes: num={num} must lie between 1 and 2**40")
        if not 1 <= min_objects <= max_objects <= 8:
            raise DataError(f"scenes: need 1 <= min_objects <= max_objects <= 8, not {min_objects}, {max_objects}")
        for name, wanted, known in (("shape", shapes, drawing.SHAPES), ("colour", colours, drawing.COLOURS)):
            if unknown := [w for w in wanted if w not in known]:
                raise DataError(f"scenes: unknown {name} {unknown}; choose from {', '.join(known)}")
        known_kinds = KINDS | HARD_KINDS
        if unknown := [k for k in kinds or () if k not in known_kinds]:
            raise DataError(f"scenes: unknown kinds of questions {unknown}; choose from {', '.join(known_kinds)}")
        if strange_masks and num < 2:
            raise DataError("scenes: strange_masks=True takes masks of another scene, so num must be at least 2")
        if unknown := [k for k in edits if k not in scenes_edits.EDITS]:
            raise DataError(f"scenes: unknown edits {unknown}; choose from {', '.join(scenes_edits.EDITS)}")
        for name, rate in (("company", company), ("colourless", colourless), ("pattern_rate", pattern_rate)):
            if not 0 <= rate <= 1:
                raise DataError(f"scenes: {name}={rate} is a chance and must lie between 0 and 1")
        self.seed, self.size, self.num, self.split = seed, size, num, split
        self.min_objects, self.max_objects = min_objects, max_objects
        self.shapes, self.colours = tuple(shapes), tuple(colours)
        self.sizes = dict(sizes or NANO_SIZES)
        self.pattern_rate, self.max_overlap, self.max_rotation = pattern_rate, max_overlap, max_rotation
        self.turns, self.kinds, self.cache = turns, None if kinds is None else tuple(kinds), cache
        self.colourless, self.edits = colourless, tuple(edits)
        self.prior, self.company = prior, company
        self.fixed, self.strange_masks = fixed, strange_masks
        self._classes = ranked_classes(self.shapes, self.colours)
        weights = np.arange(1, len(self._classes) + 1, dtype=float) ** -prior
        self._cumulative = np.cumsum(weights / weights.sum())
        self._rendered: dict[int, tuple[Scene, np.ndarray, np.ndarray]] = {}
        self._room = CACHE_BYTES
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return self.num

    def __repr__(self) -> str:
        return f"Scenes({self.split}, seed={self.seed}, num={self.num}, size={self.size})"

    def __getstate__(self):
        return self.__dict__ | {"_rendered": {}, "_room": CACHE_BYTES, "_lock": None}

    def __setstate__(self, state):
        self.__dict__.update(state)
        self._lock = threading.Lock()

    def __getitem__(self, i) -> Example:
        return self.example(i)

    def example(self, i: int, rng: np.random.Generator | None = None) -> Example:
        """Record i. Its picture is fixed; caption and questions come from `rng`, by default i's own."""
        scene, image, labels = self.render(i)
        if rng is None or self.fixed:
            rng = np.random.default_rng((1, self.seed, self._number(i)))
        pairs = question_answers(scene, rng, self.turns, self.kinds) if self.turns else []
        name = f"scenes/{self.split}/{i}"
        if self.turns and not pairs:
            raise DataError(f"{name}: no question of the kinds {self.kinds} fits it; ask for more kinds")
        turns = []
        for number, (_, question, answer) in enumerate(pairs):
            marker = "" if number else "<image>\n"
            turns += [Turn("user", marker + question), Turn("assistant", answer)]
        shown = scene
        if self.strange_masks:
            shown, _, labels = self.render((i + max(self.num // 2, 1)) % self.num)
        depth = np.array([BACKGROUND_DEPTH, *(o.depth for o in shown.objects)], np.float32)
        return Example(
            name=name,
            image=image,
            masks=labels == np.arange(1, len(shown.objects) + 1)[:, None, None],
            classes=tuple(o.shape for o in shown.objects),
            depth=depth[labels],
            caption=caption(scene, rng, self.colourless),
            turns=tuple(turns),
            edit=self.edit(i, rng) if self.edits else None,
            kind=pairs[0][0] if len(pairs) == 1 else None,
            extra={"scene": scene, "kinds": tuple(kind for kind, _, _ in pairs)},
        )

    def scene(self, i: int) -> Scene:
        """The description of scene i."""
        return self.render(i)[0]

    def render(self, i: int) -> tuple[Scene, np.ndarray, np.ndarray]:
        """Scene i: description, picture uint8 [S, S, 3], labels uint8 [S, S] (0: ground, n: object n-1).

        The arrays are read-only, since the cache shares them.
        """
        number = self._number(i)
        known = self._rendered.get(i)
        if known is not None:
            return known
        rng = np.random.default_rng((0, self.seed, number))
        for _ in range(50):
            if (rendered := self._draw(rng)) is not None:
                break
        else:
            advice = f"lower max_objects={self.max_objects} or sizes"
            raise DataError(f"scenes/{self.split}/{i}: no room for its objects; {advice}")
        if self.cache:
            with self._lock:
                # The first scenes stay, later ones are drawn again: read by epochs, an LRU would only churn.
                cost = sum(x.nbytes for x in rendered[1:]) + 4096
                if self._room >= cost and i not in self._rendered:
                    self._room -= cost
                    self._rendered[i] = rendered
        return rendered

    def edit(self, i: int, rng: np.random.Generator) -> Edit:
        """A change of one object of scene i, the request for it and the picture after it.

        The picture after it differs from scene i's in that object alone: ground, grain and jitter are the same. Where no
        edit fits, the request is for a copy.
        """
        scene, image, _ = self.render(i)
        own = np.random.default_rng((0, self.seed, self._number(i)))
        while True:  # the attempt that `render` accepted is found again, with the generator as it was before painting
            objects = self._place(own, int(own.integers(self.min_objects, self.max_objects + 1)))
            state = own.bit_generator.state
            if objects is not None and self._paint(objects, own) is not None:
                break
        for _ in range(8):
            change = scenes_edits.choose(scene, rng, self.edits)
            own.bit_generator.state = state
            painted = change and self._paint(objects, own, change.replacement)
            if painted:  # else nothing fitted, or something came out too hidden
                return Edit(change.request, painted[1], {"scene": painted[0], "change": change})
        return Edit(scenes_edits.COPY.request, image, {"scene": scene, "change": scenes_edits.COPY})

    def _number(self, i: int) -> int:
        if not 0 <= i < self.num:
            raise IndexError(f"scenes/{self.split}: index {i} is outside 0..{self.num - 1}")
        return SPLITS[self.split] + int(i)

    def _draw(self, rng: np.random.Generator) -> tuple[Scene, np.ndarray, np.ndarray] | None:
        """Draws one scene; None if it found no room or an object came out too hidden."""
        objects = self._place(rng, int(rng.integers(self.min_objects, self.max_objects + 1)))
        return None if objects is None else self._paint(objects, rng)

    def _paint(
        self,
        objects: Sequence[SceneObject],
        rng: np.random.Generator,
        replacement: Mapping[int, SceneObject | None] | None = None,
    ) -> tuple[Scene, np.ndarray, np.ndarray] | None:
        """Paints objects from the farthest to the nearest; None if one came out too hidden.

        `replacement` says which objects (by number) look otherwise, or are gone (None), with all draws as without it.
        """
        canvas, grain = drawing.ground(self.size, rng)
        labels = np.zeros((self.size, self.size), np.uint8)
        draws = [(rng.random(3, dtype=np.float32) * 14 - 7, rng.random()) for _ in objects]
        if replacement:
            changed = [(replacement.get(n, o), draw) for n, (o, draw) in enumerate(zip(objects, draws, strict=True))]
            objects, draws = zip(*[pair for pair in changed if pair[0] is not None], strict=True)
        areas, hidden = [], np.zeros((len(objects), len(objects)), int)
        for number, (o, (jitter, phase)) in enumerate(zip(objects, draws, strict=True)):
            box = drawing.cover(o.shape, o.rotation, o.x, o.y, o.radius, self.size)
            colour = np.array(drawing.COLOURS[o.colour], np.float32) + jitter
            if o.pattern != "plain":
                period = max(0.62 * o.radius * self.size, 3.0)
                second = drawing.shaded(o.pattern, phase, period, box, o.x * self.size, o.y * self.size)
                colour = np.where(second, drawing.shade(colour), colour)
            under = canvas[box.window]
            alpha = box.coverage[:, :, None] * np.float32(1 / 255)
            under += alpha * (colour + 3 * grain[box.window] - under)
            inside = box.coverage >= 128
            areas.append(int(inside.sum()))
            below = labels[box.window]
            hidden[number] = np.bincount(below[inside], minlength=len(objects) + 1)[1:]
            below[inside] = number + 1
        seen = np.bincount(labels.ravel(), minlength=len(objects) + 1)[1:]
        if any(s < MIN_VISIBLE * a for s, a in zip(seen, areas, strict=True)):
            return None
        objects = tuple(
            dataclasses.replace(o, area=a, visible=int(s)) for o, a, s in zip(objects, areas, seen, strict=True)
        )
        covers = tuple(
            (int(near), int(far)) for near, far in np.argwhere(hidden) if hidden[near, far] >= MIN_HIDDEN * areas[far]
        )
        image = np.clip(canvas + 0.5, 0, 255).astype(np.uint8)
        image.flags.writeable = labels.flags.writeable = False
        return Scene(self.size, objects, covers, self.shapes, self.colours), image, labels

    def _place(self, rng: np.random.Generator, count: int) -> list[SceneObject] | None:
        """Places `count` objects by rejection, farthest first; a crowd may overlap deeper bit by bit."""
        depths = np.sort(rng.random(count))[::-1] * 3 + 1
        names = list(self.sizes)
        placed: list[SceneObject] = []
        slack = 1 - self.max_overlap
        tries = 0
        while len(placed) < count:
            tries += 1
            if tries > 400:  # as when several objects of one colour meet in a small picture
                return None
            if tries % 25 == 0:
                slack *= 0.9
            u = rng.random(9)
            shape, colour = self._looks(u[0], u[1], placed)
            size = names[int(u[2] * len(names))]
            low, high = self.sizes[size]
            radius = low + (high - low) * u[3]
            rotation = (2 * u[4] - 1) * self.max_rotation
            pattern = "plain" if u[5] >= self.pattern_rate else drawing.PATTERNS[1 + int(u[6] * 2)]
            wide, tall = (radius * extent for extent in drawing.half_extent(shape, rotation))
            x, y = wide + u[7] * (1 - 2 * wide), tall + u[8] * (1 - 2 * tall)
            depth = float(depths[len(placed)])
            new = SceneObject(shape, colour, size, pattern, x, y, radius, rotation, depth)
            if all(self._apart(new, old, slack) for old in placed):
                placed.append(new)
        return placed

    def _looks(self, u: float, v: float, placed: Sequence[SceneObject]) -> tuple[str, str]:
        """Shape and colour of a new object from two uniform draws, by `prior` and `company`."""
        if placed and v < self.company:
            friend = placed[int(u * len(placed))]
            k = self._classes.index((friend.colour, friend.shape)) + 1
            colour, shape = self._classes[k % len(self._classes)]
        elif self.prior or self.company:
            colour, shape = self._classes[min(int(np.searchsorted(self._cumulative, u)), len(self._classes) - 1)]
        else:
            shape = self.shapes[int(u * len(self.shapes))]
            colour = self.colours[int(v * len(self.colours))]
        return shape, colour

    def _apart(self, new: SceneObject, old: SceneObject, slack: float) -> bool:
        # Neighbours of one colour would melt into one blob that nobody can count: keep those well apart.
        needed = 1.5 if new.colour == old.colour else slack
        return np.hypot(new.x - old.x, new.y - old.y) >= needed * (new.radius + old.radius)
