"""One paired skill: tell the order of the shuffled quarters of a picture, and paint the picture in order.

Command:   python -m sgt_jax.study --config=configs/study/jigsaw.py --workdir=/tmp/jigsaw --results=docs/results/jigsaw
Hardware:  2 CPU cores; start it twice, kill it anywhere and run the same command again. --dry-run says what it costs.

The pair for which a controlled study at 7B found that painting helps answers: question and painting need the same thing. A
picture shows one large thing that covers its middle, so every quarter says by itself where it belongs. There are 24 answers.

  sft      the question, and replay
  sgt      the same, and two pictures put in order for each question
  copied   the same, but what is painted is the picture as it is shown: as many paintings of the same pixels, in no order
  base     nothing is trained, and
  oracle   SFT for 500 steps: the two ends between which the others lie. --decide judges the bed by them
"""

import ml_collections
from sgt_jax.configs.study import dots

SEEDS = (400, 401, 402)
STEPS = 220  # of pilot seed 100, which is not used again: SFT told nothing after 150 steps and all but everything after 500
ORACLE_STEPS = 500
# A triangle's tip may miss a quarter of the picture.
THING = dict(shapes=("circle", "square"), sizes=dict(large=(0.33, 0.38)), min_objects=1, max_objects=1)
LARGE = dict(type="scenes", size=dots.SIZE, turns=0, **THING)
GRID = dict(grid=2, style="plain")


def get_config() -> ml_collections.ConfigDict:
    """The study; see configs/study/dots.py for the base and the replay."""
    about = (
        "Does painting a picture in order help to tell the order of its shuffled quarters? All arms see the same questions "
        "at the same steps."
    )
    arms = dict(sft=dots.alone(), sgt={}, copied=dict(data=dict(mixture=dict(proxy=dict(photo_as_target=True)))))
    arms |= dict(base=dict(total_steps=0), oracle=dots.alone(total_steps=ORACLE_STEPS))
    c = dots.study("jigsaw", arms, "sgt", about, SEEDS)
    c.base.total_steps = STEPS
    sources, asked = c.base.data.sources, LARGE | dict(type="puzzles")
    sources.asked = asked | dict(seed=40, split="train", num=30_000)
    sources.painted = LARGE | dict(seed=41, split="train", num=30_000)
    sources.held_out = asked | dict(seed=40, split="test", num=20_000)
    sources.known = asked | dict(seed=42, split="train", num=4_000)
    sources.whole = LARGE | dict(seed=40, split="test", num=1_000)
    c.base.data.mixture.proxy.update(proxy="jigsaw", options=GRID)
    masks = c.base.evaluators.masks
    c.base.evaluators.answers.max_new_tokens = 5  # four places and the end of the turn
    c.base.evaluators.tiles = dict(type="tiles", source="whole", n=100, proxy_options=GRID) | {
        k: masks[k] for k in ("show", "seed", "steps", "shift", "text_scale", "batch")
    }
    del c.base.evaluators.masks
    c.scores = dict(
        order=dict(title="order told", evaluator="answers", item="accuracy"),
        old=c.scores.old,
        geneval=c.scores.geneval,
        tiles=dict(title="tiles in their places", evaluator="tiles", item="in_place"),
    )
    c.columns, c.headline, c.understanding = ("order", "old", "geneval", "tiles"), "order", ("order",)
    c.gates = dict(chance=dict(jigsaw=100 / 24), headroom=5.0, oracle=90.0, way=(0.3, 0.7), controls={}, spared=(),
                   roles=dict(base="base", sft="sft", oracle="oracle"))
    return c
