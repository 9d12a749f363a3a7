"""Post-trains the pretrained nano model with SGT, in minutes on two cores of a server CPU, with no download.

Command:   python -m sgt_jax.main --config=configs/nano_sgt.py --workdir=/tmp/nano_sgt
Hardware:  2 CPU cores, 3 GB of memory.
Reaches:   see the README (measured) and report.html in the work directory.

It starts from the weights that ship with the package (configs/nano_pretrain.py made them, docs/results.md says how), in
BAGEL's published layout; --config.init_from=FOLDER takes others. That model has never compared places. Here it learns to
answer which of two or three discs is highest, and more of that kind, and paints the segmentation of what it sees through
its understanding encoder; it continues to draw, edit and answer what it could answer before (without that it forgets how).

Beside it stands SFT alone: the same questions at the same steps, nothing painted. Its scores are stored in the package;
--config.compare=sft trains it here instead, in WORKDIR/sft, and --config.compare=FOLDER takes a finished run of yours.
What the difference is over many seeds, docs/results.md says: this is one arm, with a seed of its own, of the study there.
"""

import ml_collections
from sgt_jax.configs import nano, nano_pretrain

SIZE = nano.SIZE
old = nano_pretrain.scenes  # of the world that the model was pretrained on: one to three objects of many shapes
VARIANTS = ("sft",)
# Two or three discs, called by their colours, all equally common: no question can be answered without the picture.
DISCS = dict(min_objects=2, max_objects=3, prior=0.0, company=0.0, shapes=("circle",), pattern_rate=0.0)
TRAINED = ("left_right", "above_below", "leftmost", "highest", "larger", "nearer", "count_beside", "quadrant", "size")
OTHERS = ("left_right", "above_below", "leftmost", "quadrant", "size")  # scored beside "highest"


def discs(kinds: tuple = TRAINED, **options) -> dict:
    """A source of discs, with questions of these kinds."""
    return old(**options) | DISCS | dict(kinds=kinds)


def evaluators() -> dict:
    """Scores on pictures never trained on."""

    def told(called: str, source: str, known: str, n: int) -> dict:
        return dict(type="answers", called=called, source=source, n=n, train_source=known, train_n=1_000,
                    max_new_tokens=3, batch=500, on_bad="skip")  # some scenes fit no question of the kinds

    drawn = dict(shift=2.0, batch=64, seed=1)
    return dict(
        answers=told("answers, highest or lowest", "held_out", "known", 2_000),
        others=told("answers, other kinds", "held_out_others", "known_others", 1_000),
        old=told("answers, pretraining", "held_out_old", "asked_old", 500),
        # Read by panoptic quality: discs on grey are read as masks, too (a model that paints the photo has the higher mIoU),
        # but their colours are not those of the palette.
        masks=dict(type="masks", source="held_out", n=150, train_source="known", train_n=64, text_scale=1.0,
                   palette="distinct", max_masks=8, proxy_options=dict(palette="distinct", style="plain"), steps=4,
                   on_bad="skip", show=12, **drawn),
        prompts=dict(type="prompts", source="held_out_old", n=50, max_count=4, text_scale=3.0, steps=8, show=8, **drawn),
    )  # fmt: skip


def get_config(variant: str = "") -> ml_collections.ConfigDict:
    """The experiment, or its `variant`; see configs/nano.py for the fields that are not explained here."""
    if variant not in ("", *VARIANTS):
        raise ValueError(f"no variant {variant} of this config; there are {', '.join(VARIANTS)}")
    c = nano_pretrain.get_config()
    c.name = "nano_sgt"
    c.total_steps = 500
    c.init_from = "package:nano"
    c.vae_from = ""  # part of that folder

    # -- Optimizer: rates of pretraining, or masks come too late (docs/results/first_bed.md); replay protects the rest.
    c.schedule = dict(name="warmup_stable_decay", warmup_steps=50, decay_fraction=0.3, final_fraction=0.0)
    c.ema_decay = 0.98

    # -- Data: pictures that pretraining has not seen. For each conversation about discs two paintings, and as replay 1/4
    # conversation about pretraining's scenes, two drawings and 1/4 edit (docs/results.md: what less replay does).
    c.data.stages = ()  # not those of pretraining
    c.data.on_bad = "skip"  # a few scenes fit no question of the kinds
    c.data.rows = 16
    c.data.sources = ml_collections.ConfigDict(
        dict(
            asked=discs(seed=20, split="train", num=30_000, turns=3),
            painted=discs(seed=21, split="train", num=30_000, turns=0),
            asked_old=old(seed=20, split="train", num=30_000, turns=3),
            drawn=old(seed=22, split="train", num=30_000, turns=0, colourless=0.3),
            edited=old(seed=23, split="train", num=30_000, turns=0, edits=nano_pretrain.EDITS),
            held_out=discs(seed=20, split="test", num=4_000, turns=1, kinds=("highest",)),
            held_out_others=discs(seed=21, split="test", num=4_000, turns=1, kinds=OTHERS),
            held_out_old=old(seed=20, split="test", num=4_000, turns=1),
            # Whose commonest answers are the trivial baseline.
            known=discs(seed=30, split="train", num=4_000, turns=1, kinds=("highest",)),
            known_others=discs(seed=31, split="train", num=4_000, turns=1, kinds=OTHERS),
        )
    )
    c.data.mixture = ml_collections.ConfigDict(
        dict(
            proxy=dict(source="painted", task="proxy", proxy="segmentation", weight=2.0,
                       options=dict(style="plain", palette=""), latents=False, photo_as_target=False, tokenised="",
                       vit_size={}),
            understanding=dict(source="asked", task="understanding", weight=1.0, vit_size={}),
            old_questions=dict(source="asked_old", task="understanding", weight=0.25, vit_size={}),
            text_to_image=dict(source="drawn", task="text_to_image", weight=2.0),
            editing=dict(source="edited", task="editing", see=False, joined_rate=0.5, weight=0.25, vit_size={}),
        )
    )  # fmt: skip
    c.data.budgets = {"und": 160, "vit": 48, "gen": 64, "labels": 6, f"pixels:{SIZE}x{SIZE}": 4}

    if variant == "sft":
        c.name = "SFT"
        c.data.mixture.proxy.weight = 0.0
        # As many conversations and as much replay as beside the proxy: a row without it needs fewer slots.
        c.data.budgets.update({"und": 110, "vit": 16, "gen": 48, f"pixels:{SIZE}x{SIZE}": 3})

    c.evaluate_at_start = True  # the pretrained model is what the tuned one is compared with
    c.evaluate_every = 10_000
    c.evaluators = ml_collections.ConfigDict(evaluators())
    c.sampling = dict(
        t2i=nano.painting(8, 2.0, text_scale=3.0),
        edit=nano.painting(8, 2.0, text_scale=1.5),
        segment=nano.painting(4, 2.0, text_scale=1.0),
        palette="distinct",
    )
    # The same without painting, trained elsewhere and stored; "sft" trains it here first.
    c.compare = "" if variant else "package:nano_sft"
    c.cpu_devices = 1
    c.log_every = 20
    c.checkpoint = dict(every=100, keep=1)
    return c
