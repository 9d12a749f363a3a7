"""Parity sections "joint_step" and "train_loop": language model and transformer trained as one."""

import functools
import types
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from sgt_jax.batch import TokenInfo
from sgt_jax.checkpoints.exporting import published_arrays
from sgt_jax.models.omnigen2.config import OmniGen2Config
from sgt_jax.models.omnigen2.mllm.names import mllm_names, published_name
from sgt_jax.models.omnigen2.model import OmniGen2
from sgt_jax.parity.checks import Check
from sgt_jax.parity.omnigen2 import prompts
from sgt_jax.parity.omnigen2.answers import gradient_checks
from sgt_jax.parity.omnigen2.batches import RECORDED, MicroBatch, micro_batch, sizes, stacked
from sgt_jax.parity.omnigen2.flow import norms
from sgt_jax.parity.omnigen2.folder import Folder
from sgt_jax.parity.omnigen2.pack import Sample as Drawn
from sgt_jax.parity.omnigen2.pack import cut, tokens_of
from sgt_jax.parity.omnigen2.transformer import tree_of
from sgt_jax.training import optimizer
from sgt_jax.training import step as training_step
from sgt_jax.training.objectives import sgt

LOOP, JOINT = "train_loop.npz", "joint_step.npz"
PARTS = 3  # micro-batches of an optimizer step: gen, gen, sft
# What the README says of the recorded loop.
SETTINGS = types.SimpleNamespace(
    total_steps=5,
    optimizer=types.SimpleNamespace(
        name="adamw", learning_rate=1e-3, b1=0.9, b2=0.95, eps=1e-8, weight_decay=0.01, clip=1.0
    ),
    schedule=types.SimpleNamespace(name="constant", warmup_steps=4, delay_steps=1),
)
OBJECTIVE = types.SimpleNamespace(ce_weight=1.0, mse_weight=1.0, ce_loss_reweighting=False, reference_scaling=True)


class _Replayed(OmniGen2):
    """Draws what was recorded, and gives the embedding of padding no gradient, as the reference's table does."""

    def understand(self, params: Any, batch: Any) -> jax.Array:
        und = batch["und"]
        x = self.mllm.embed(params["mllm"], und, self.mllm.see(params["mllm"], batch["vit"]))
        padding = (und["token"] == self.config.tokens.pad_token_id)[..., None]
        x = jnp.where(padding, jax.lax.stop_gradient(x), x)
        return self.mllm.run(params["mllm"], x, TokenInfo.of(und), silent=und["silent"])[0]

    def draw(self, key: jax.Array, batch: Any) -> dict[str, Any]:
        return {"time": batch["flow"][RECORDED + "_u"], "noise": batch["gen"][RECORDED + "_noise"], "vae": {}}


class Setup(NamedTuple):
    """What both sections share: one compiled gradient for all micro-batches of both files."""

    config: OmniGen2Config
    params: dict[str, Any]
    loop: list[MicroBatch]
    joint: MicroBatch
    slots: dict[str, int]
    gradient: Any


def setup(folder: Folder) -> Setup:
    """Made once a folder."""
    if "training" not in folder.shared:
        folder.shared["training"] = _setup(folder)
    return folder.shared["training"]


def _setup(folder: Folder) -> Setup:
    text, of_mllm = folder.mllm
    config = of_mllm.replace(dit=folder.dit_config, vae=folder.vae[1])
    params = {"mllm": text, "dit": tree_of(folder.dit_names, folder.dit_tensors)}
    seen = folder.arrays("mllm.npz")
    pictures = prompts.recorded_pictures(seen["pixel_values"], seen["image_grid_thw"])
    arrays = folder.arrays(LOOP)
    count = sum(name.endswith(".input_ids") for name in arrays)
    loop = [micro_batch(arrays, f"tl{i}.", pictures, config) for i in range(count)]
    joint = micro_batch(folder.arrays(JOINT), "joint.", pictures, config)
    model = _Replayed(config)

    @jax.jit
    def gradient(params: Any, batch: Any) -> Any:
        loss = functools.partial(sgt.loss, settings=OBJECTIVE)

        def of_params(params: Any, **part: Any) -> Any:
            return loss(params, batch, jax.random.key(0), model, **part)

        return training_step.value_and_grad(of_params, params, PARTS)

    return Setup(config, params, loop, joint, sizes([*loop, joint]), gradient)


# -- Sections ----------------------------------------------------------------------------------------------------------


def joint_step(folder: Folder) -> Iterator[Check]:
    """One generation micro-batch through both models: features, loss, and the gradients of all parameters."""
    shared, recorded = setup(folder), folder.arrays(JOINT)
    check = functools.partial(folder.check, "joint_step", JOINT)
    batch = stacked([shared.joint, None, None], [*shared.loop, shared.joint], shared.slots)
    model = _Replayed(shared.config)
    run = jax.jit(lambda params, batch: model.forward(params, batch, model.draw(None, batch), ("features",)))
    outputs = jax.tree.map(np.asarray, run(shared.params, jax.tree.map(lambda x: x[:1], batch)))

    mask = recorded["joint.attention_mask"] > 0
    features = np.zeros_like(recorded["text_feats"])
    features[mask] = outputs["features"][0][: int(mask.sum())]
    yield folder.compare("joint_step", JOINT, "text_feats", features[mask], recorded["text_feats"][mask])
    patch = shared.config.dit.patch_size
    samples = [Drawn(x, (), np.zeros((0, 1)), 0.0) for x in shared.joint.latents]
    first = np.cumsum([0, *(tokens_of(x, patch) for x in shared.joint.latents)])[:-1]
    yield check("t", outputs["t"][0][first])
    error = (outputs["velocity"] - outputs["velocity_target"])[0].astype(np.float64)
    yield check("loss_per_sample_sum", np.asarray([np.sum(x**2) for x in cut(error, samples, patch)]))
    yield check("joint.num_elements", np.asarray(sum(x.size for x in shared.joint.latents)))

    (value, _), gradients = shared.gradient(shared.params, batch)
    yield check("loss", value)
    order = folder.json("param_order.json")["dit"]
    yield check("dit.grad_norms", norms(published_arrays(gradients["dit"], folder.dit_names), order))
    found = published_arrays(gradients["mllm"], mllm_names(shared.config))
    yield from gradient_checks(folder, "joint_step", JOINT, found, "mllm.")


def train_loop(folder: Folder) -> Iterator[Check]:
    """All optimizer steps of the recorded loop, under the reference's scaling of losses."""
    shared, recorded = setup(folder), folder.arrays(LOOP)
    check = functools.partial(folder.check, "train_loop", LOOP)
    tx = optimizer.make_optimizer(SETTINGS)
    params, state = shared.params, jax.jit(tx.init)(shared.params)

    @jax.jit
    def update(gradients: Any, state: Any, params: Any) -> Any:
        updates, state = tx.update(gradients, state, params)
        return optax.apply_updates(params, updates), state, optax.tree.norm(gradients)

    losses, before_clip, steps = [], [], len(shared.loop) // PARTS
    for step in range(steps):
        three = shared.loop[PARTS * step : PARTS * step + PARTS]
        batch = stacked(three, shared.loop, shared.slots)
        (_, metrics), gradients = shared.gradient(params, batch)
        counts = [one.labels or sum(tokens_of(x, shared.config.dit.patch_size) for x in one.latents) for one in three]
        losses += list(np.asarray(metrics["row_loss"]) / counts)
        params, state, norm = update(gradients, state, params)
        before_clip.append(norm)
        for branch, name, arrays in _published(folder, shared.config, params):
            order = folder.json("param_order.json")[branch]
            yield check(f"{branch}.param_norms.{step + 1}", norms({n: arrays[name(n)] for n in order}, order))
    yield check("losses", np.asarray(losses))
    yield check("grad_norm_before_clip", np.asarray(before_clip))
    rate = optimizer.schedule(SETTINGS)
    yield check("lr_used", np.asarray([rate(step) for step in range(steps)]))
    yield check("lr_next", np.asarray(rate(steps)))
    for i, one in enumerate(shared.loop):
        if one.latents:
            yield check(f"tl{i}.num_elements", np.asarray(sum(x.size for x in one.latents)))
    for branch, name, arrays in _published(folder, shared.config, params):
        for array in recorded:
            if array.startswith(f"{branch}.param/"):
                yield check(array, arrays[name(array.partition("/")[2])])


def _published(folder: Folder, config: OmniGen2Config, params: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """(branch, recorded name -> published name, published arrays) of both branches."""
    yield "dit", str, published_arrays(params["dit"], folder.dit_names)
    yield "mllm", published_name, published_arrays(params["mllm"], mllm_names(config))
