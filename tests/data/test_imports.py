"""Reading data must not wake an accelerator: our data code imports no JAX."""

import subprocess
import sys

MODULES = (
    "sgt_jax.batch sgt_jax.data.pictures.resizing sgt_jax.data.pictures.masks sgt_jax.data.pictures.maps "
    "sgt_jax.data.proxies "
    "sgt_jax.data.text.templates sgt_jax.data.text.tokenizer sgt_jax.data.sources.scenes.source sgt_jax.data.sources.sam_sgt "
    "sgt_jax.data.tasks sgt_jax.data.stored.ingest sgt_jax.data.sources.records sgt_jax.data.sources.llava_onevision "
    "sgt_jax.data.sources.sam_sgt_tars sgt_jax.data.sources.coco_panoptic "
    "sgt_jax.evaluation.rules.segmentation sgt_jax.evaluation.scenes.oracle"
).split()


def test_no_jax_in_the_data_code():
    code = f"import importlib, sys\nfor m in {MODULES}: importlib.import_module(m)\n"
    code += "print(sorted({m.split('.')[0] for m in sys.modules} & {'jax', 'flax', 'optax', 'tensorflow', 'torch'}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
