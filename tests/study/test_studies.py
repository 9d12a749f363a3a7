"""The study files of configs/study: every arm fits the base, keeps what it says it keeps, and means the same everywhere."""

import functools
import importlib
import itertools

import jax
import numpy as np
import pytest
from sgt_jax.configs.study import common, ratio, recipe

from sgt_jax import trees
from sgt_jax.data.examples import Example
from sgt_jax.data.pictures.resizing import ResizeRule
from sgt_jax.data.proxies import make_pair
from sgt_jax.data.sources.scenes.source import Scenes
from sgt_jax.data.tasks import Proxy
from sgt_jax.data.text.tokenizer import Tokenizer
from sgt_jax.study import arms
from sgt_jax.training import experiment

NAMES = ("proxies", "ratio", "scaling", "convergence", "recipe", "baselines")


@functools.cache
def made(name):
    """{arm: its config with seed 0} of a study."""
    config = importlib.import_module(f"sgt_jax.configs.study.{name}").get_config()
    return {arm: arms.run_config(config, arms.Run(arm, 0)) for arm in config.arms}


def packs(config, n, rows=1):
    """What the host knows of the first n batches that a config trains on."""
    config = config.copy_and_resolve_references()
    config.data.rows = rows
    it = iter(experiment.build(config).batches(list(range(rows))))
    return [next(it)[1] for _ in range(n)]


@pytest.mark.parametrize("name", NAMES)
def test_every_arm_fits_the_base_and_is_like_no_other(name):
    config = importlib.import_module(f"sgt_jax.configs.study.{name}").get_config()
    assert config.name == name and len(config.seeds) >= 3 and config.favourite in config.arms
    assert set(arms.arm_names(config)) == set(made(name)) >= {"base", "sft"}
    assert len({arms.fingerprint(c) for c in made(name).values()}) == len(made(name))
    assert all(config.scores[c].evaluator in config.base.evaluators for c in config.columns)
    for arm in config.get("curve", {}).get("points", {}):
        assert arm in config.arms
    for arm, c in made(name).items():
        assert c.data.mixture.text_to_image.weight > 0 and c.data.mixture.editing.weight > 0, f"{arm}: no replay"
        weight = c.data.mixture.understanding.weight
        assert weight == ratio.UNDERSTANDING or arm == "reca", f"{arm}: other proportions of understanding and replay"


def test_arms_of_the_same_meaning_are_one_run():
    same = [("base", "proxies ratio scaling recipe baselines"), ("sft", "proxies ratio scaling recipe baselines")]
    for arm, names in same:
        assert len({arms.fingerprint(made(name)[arm]) for name in names.split()}) == 1
    segmentation = arms.fingerprint(made("proxies")["segmentation"])
    others = dict(ratio="ratio_1_5", scaling="scenes_30000", recipe="mixed", baselines="segmentation")
    for name, arm in others.items():
        assert arms.fingerprint(made(name)[arm]) == segmentation
    assert arms.fingerprint(made("baselines")["reconstruction"]) == arms.fingerprint(made("proxies")["reconstruction"])


@pytest.mark.parametrize("name,arm", [
    *(("ratio", ratio.name(r)) for r in ratio.RATIOS), ("ratio", "sft"), ("recipe", "latents"),
])  # fmt: skip
def test_every_row_holds_one_conversation_whatever_else(name, arm):
    infos, config = packs(made(name)[arm], 60), made(name)[arm]
    assert all(info.samples["understanding"] == 1 for info in infos[30:])  # once the pool is as it stays: full of them
    for part in ("proxy", "text_to_image", "editing"):
        share = config.data.mixture[part].weight / ratio.UNDERSTANDING
        count, pool = sum(info.samples.get(part, 0) for info in infos), config.data.pool_size
        assert share * len(infos) - pool <= count <= share * (len(infos) + pool) + 2, f"{part} does not keep up"


def test_two_stages_see_the_paintings_and_the_conversations_of_the_arms_they_stand_between():
    config = made("recipe")["two_stage"]
    paint, then = config.data.stages
    assert paint["steps"] + common.STEPS == config.total_steps and "steps" not in then
    decay = config.schedule.decay_fraction * config.total_steps
    assert decay == pytest.approx(made("recipe")["mixed"].schedule.decay_fraction * common.STEPS)
    with (short := config.copy_and_resolve_references()).unlocked():
        short.data.stages = (dict(paint, steps=70), then)
    infos = packs(short, 80)
    assert not any("understanding" in i.samples for i in infos[:70])
    assert not any("proxy" in i.samples for i in infos[70:])

    def asked(infos):
        return [n for i in infos for n in i.names[0] if n.startswith("understanding")]

    # Of 30,000 scenes those that SFT alone sees first; which one a row takes next depends on what stands beside it.
    assert set(asked(infos[70:])) <= set(asked(packs(made("recipe")["sft"], 40)))
    rate = np.mean([i.samples["proxy"] for i in infos[10:70]])
    assert rate * recipe.PAINT_STEPS == pytest.approx(1.55 * common.STEPS, rel=0.05)


def test_frozen_arms_train_what_they_say():
    shapes = jax.eval_shape(experiment.build(made("recipe")["mixed"]).init, jax.random.key(0))
    for name, arm, moves, rests in (
        ("recipe", "frozen_vit", "connector/fc1", "vit/layers_0"),
        ("baselines", "reca", "decoder/layers_0/gen", "decoder/layers_0/und"),
    ):
        config = made(name)[arm]
        trainable, _ = trees.split_trainable(shapes, tuple(config.freeze))
        paths = {trees.path_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(trainable)}
        assert any(p.startswith(moves) for p in paths) and not any(p.startswith(rests) for p in paths)
        if arm == "reca":  # nothing that an answer depends on
            reads = ("vit", "connector", "decoder/embed", "decoder/lm_head")
            assert not any(p.startswith(reads) or "und" in p for p in paths)


def task(proxy, **options):
    return Proxy(proxy, Tokenizer.nano().encode, ResizeRule(8, 32, 32), ((32, 32),), dict(style="plain"), **options)


def target(sample):
    return sample.plan[-1].data


def test_several_proxies_take_turns_and_one_is_as_before():
    example = Scenes(min_objects=2)[3]
    rng = np.random.default_rng(0)
    samples = [task("reconstruction+depth+outlines")(example, rng) for _ in range(120)]
    counts = [sum(s.request == make_pair(p, example, rng, style="plain").instruction for s in samples)
              for p in ("reconstruction", "depth", "outlines")]  # fmt: skip
    assert sum(counts) == 120 and min(counts) > 25
    for sample in samples[:10]:
        name = next(p for p in ("reconstruction", "depth", "outlines")
                    if make_pair(p, example, rng, style="plain").instruction == sample.request)  # fmt: skip
        np.testing.assert_array_equal(target(sample), make_pair(name, example, rng, style="plain").target)
    one, drawn = np.random.default_rng(1), np.random.default_rng(1)
    task("segmentation")(example, one)
    make_pair("segmentation", example, drawn, style="plain")
    assert one.random() == drawn.random(), "one proxy draws a number that it did not draw before"


def test_the_old_fault_paints_the_photo_where_segmentation_is_asked_for():
    example = Scenes(min_objects=2)[3]
    faulty, right = (task("segmentation", photo_as_target=x)(example, np.random.default_rng(0)) for x in (True, False))
    assert faulty.request == right.request and (target(right) != example.image).any()
    np.testing.assert_array_equal(target(faulty), example.image)
    built = experiment.build(made("recipe")["photo_target"])
    spec = built.config.data.mixture.proxy.to_dict()
    np.testing.assert_array_equal(target(built.task(spec)(example, np.random.default_rng(0))), example.image)


def test_tokenised_targets_of_several_proxies_are_refused():
    from sgt_jax.errors import DataError

    example = Example("x", image=np.zeros((32, 32, 3), np.uint8), moments=(np.zeros((8, 8, 8), np.float16),))
    for faulty in (task("depth+edges"), task("depth", photo_as_target=True)):
        with pytest.raises(DataError, match="x: tokenised targets are those of one proxy, not of 'depth"):
            faulty(example, np.random.default_rng(0))


def test_the_scaling_study_changes_the_number_of_scenes_alone():
    few, many = (made("scaling")[arm].to_dict() for arm in ("scenes_00030", "scenes_30000"))
    few["data"]["sources"]["painted"]["num"], few["name"] = 30_000, many["name"]
    assert few == many
    names = itertools.chain.from_iterable(i.names[0] for i in packs(made("scaling")["scenes_00030"], 40))
    assert {int(n.rsplit("/", 1)[1]) for n in names if n.startswith("proxy")} == set(range(30))
