"""Every file of configs/, and every variant of it, is built, its model traced for shapes, and its first batch made.

Where a config's data or weights are downloaded first, its batch is left out and the sizes in the file count.
"""

import importlib
import json

import jax
import numpy as np
import pytest
from sgt_jax.configs import bagel_7b_sgt, omnigen2_sgt

from sgt_jax.study import arms
from sgt_jax.training import experiment
from tests.support import house
from tests.support.paths import REPOSITORY

SHARED = ("sgt_jax.configs", "sgt_jax.configs.study", "sgt_jax.configs.study.common")  # no experiments of their own
MODULES = [name for path in house.read_files(REPOSITORY, "configs") if (name := house.module_name(path)) not in SHARED]
VARIANTS = {
    "sgt_jax.configs.bagel_7b_sgt": ("", *bagel_7b_sgt.VARIANTS, "32k+pixels"),
    "sgt_jax.configs.omnigen2_sgt": ("", *omnigen2_sgt.VARIANTS, "local+reference_scaling"),
}
FILES = [(module, variant) for module in MODULES for variant in VARIANTS.get(module, ("",))]


def load(module, variant=""):
    """{arm: config}: one without a name for an experiment, all arms' for a study."""
    get_config = importlib.import_module(module).get_config
    config = get_config(variant) if variant else get_config()
    if "arms" not in config:
        return {"": config}
    return {arm: arms.run_config(config, arms.Run(arm, int(config.seeds[0]))) for arm in config.arms}


def is_downloaded(path):
    """Whether something a config names comes neither with the package nor from the seed."""
    return bool(path) and not path.startswith("package:")


def without_downloads(config):
    """The config with weights from the seed and the small vocabulary, where its own have to be downloaded."""
    config = config.copy_and_resolve_references()
    config.init_from = "" if is_downloaded(config.init_from) else config.init_from
    if is_downloaded(config.data.tokenizer):
        config.data.tokenizer = "package:nano/tokenizer.json"
    return config


def key_of(*parts):
    return json.dumps(parts, sort_keys=True, default=str)


@pytest.fixture(scope="module")
def seen():
    """Keys of models traced and of data read: many variants and arms differ in neither."""
    return set()


@pytest.mark.parametrize("module, variant", FILES)
def test_a_config_builds_a_model_and_a_first_batch(module, variant, seen):
    for arm, config in load(module, variant).items():
        task = experiment.build(without_downloads(config))
        # How to compute decides nothing about shapes.
        sizes = {k: v for k, v in config.model.to_dict().items() if k not in ("attention", "attention_block", "remat")}
        model = key_of(config.objective.name, config.init_from, config.data.tokenizer, sizes)
        if model not in seen:
            parameters = jax.eval_shape(task.init, jax.random.key(0))
            assert sum(x.size for x in jax.tree.leaves(parameters)) > 0
        data = key_of(config.objective.name, config.data.to_dict())
        downloaded = any(source["type"] != "scenes" for source in config.data.sources.to_dict().values())
        if data not in seen and not downloaded:
            batch, info = next(iter(task.batches([0])))
            assert {lane for lane, n in config.data.budgets.items() if n} >= set(batch), arm
            assert all(len(x) == 1 for x in jax.tree.leaves(batch)) and any(np.any(x) for x in jax.tree.leaves(batch))
            assert info.names
        seen |= {model, data}


def test_every_config_was_found():
    names = {module.removeprefix("sgt_jax.configs.") for module in MODULES}
    assert names >= {"nano", "nano_sgt", "nano_vae", "nano_pretrain", "bagel_7b_sgt", "study.proxies", "study.ratio"}
    assert {module for module, _ in FILES} == set(MODULES)
