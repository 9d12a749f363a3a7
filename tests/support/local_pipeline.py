"""An untrained OmniGen2 of configs/omnigen2_sgt.py:local's sizes as a pipeline folder, and the run that starts from it."""

import json
from pathlib import Path

import numpy as np
from sgt_jax.configs import omnigen2_sgt

from tests.support import local_road


def get_config():
    """The local variant on the data and the checkpoint of the true one: photos, a base folder, tokenised targets."""
    c, true = omnigen2_sgt.get_config("local"), omnigen2_sgt.get_config()
    c.init_from = "checkpoints/OmniGen2-local"
    c.data.tokenizer = f"{c.init_from}/processor"
    c.data.sources = true.data.sources
    for held_out, source in (("sam_held_out", "sam"), ("llava_held_out", "llava")):
        c.data.sources[held_out].limit = c.data.sources[source].skip = 2
    c.data.canvases = true.data.canvases
    c.data.mixture.segmentation.tokenised = true.data.mixture.segmentation.tokenised
    c.data.vit_size.update(min_size=16)
    c.data.on_bad = "skip"
    c.data.budgets = {"und": 96, "vit": 128, "labels": 16, "text": 64, "gen": 32, "flow": 2}
    return c


def make(root: Path) -> None:
    """Writes everything that the run reads below `root`."""
    checkpoint(root / "checkpoints/OmniGen2-local")
    local_road.sam_sgt(root / "data/SAM-SGT")
    local_road.llava(root / local_road.LLAVA)


def checkpoint(folder: Path) -> None:
    """The folder, with the nano tokenizer."""
    import jax

    from sgt_jax.models.family import by_name

    family = by_name("omnigen2")
    model = family.config(omnigen2_sgt.get_config("local").model.to_dict())
    base = folder.with_name("bare")
    bare(base, model)
    draw = np.random.default_rng(0).standard_normal
    shapes = jax.eval_shape(family.model(model).init, jax.random.key(0))
    params = jax.tree.map(lambda x: (0.2 * draw(x.shape)).astype(np.float32), shapes)
    family.save(params, model, folder, copy_from=base)


def bare(folder: Path, model) -> None:
    """A pipeline folder of a model's sizes without weights."""
    from sgt_jax.data.text.tokenizer import NANO_FILE

    dit, text, vision, vae = (dict(vars(part)) for part in (model.dit, model.text, model.vision, model.vae))
    text["rope_scaling"] = {"type": "mrope", "mrope_section": text.pop("mrope_section")}
    tokens = dict(vars(model.tokens))
    text |= {"eos_token_id": tokens["im_end_token_id"], "pad_token_id": tokens["pad_token_id"]}
    files = {
        "model_index.json": {"_class_name": "OmniGen2Pipeline"},
        "scheduler/scheduler_config.json": {"_class_name": "FlowMatchEulerDiscreteScheduler"},
        "mllm/generation_config.json": {},
        "transformer/config.json": dit,
        "mllm/config.json": {"text_config": text, "vision_config": vision, **tokens},
        "vae/config.json": {
            "block_out_channels": [vae["ch"] * m for m in vae["ch_mult"]], "layers_per_block": vae["num_res_blocks"],
            "latent_channels": vae["z_channels"], "in_channels": 3, "out_channels": 3, "sample_size": 32,
            "norm_num_groups": vae["norm_groups"], "scaling_factor": vae["scale_factor"],
            "shift_factor": vae["shift_factor"], "act_fn": "silu",
        },
        "processor/tokenizer.json": json.loads(Path(NANO_FILE).read_text()),
    }  # fmt: skip
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(json.dumps(content))
