"""Recorded training steps of BAGEL: inputs, activations, losses, gradients, optimizer."""

import functools
import json
import re
import types
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np
import optax

from sgt_jax.batch import TokenInfo, may_attend
from sgt_jax.models.bagel.model import Bagel
from sgt_jax.parity.bagel.folder import Folder
from sgt_jax.parity.bagel.pack import ReferencePack, token_info
from sgt_jax.parity.checks import Check, compare
from sgt_jax.training import optimizer
from sgt_jax.training import step as training_step
from sgt_jax.training.objectives import sgt

# Softmax does not see a key bias without rotation: these gradients are rounding noise.
_KEY_BIAS = re.compile(r"^vit_model\..*k_proj\.bias$")


def inputs(folder: Folder) -> Iterator[Check]:
    """Attention mask, from the mask rule over lanes."""
    arrays = folder.inputs
    info = TokenInfo(**token_info(arrays, int(arrays["sequence_length"])))
    yield compare("inputs", "attention_mask", may_attend(info, info), arrays["attention_mask"], "exact")
    und, gen = (TokenInfo.of(folder.pack.batch[lane]) for lane in ("und", "gen"))
    both = TokenInfo(*(np.concatenate(parts, axis=1)[0] for parts in zip(und, gen)))
    order = folder.pack.order
    expected = arrays["attention_mask"][np.ix_(order, order)]
    yield compare("inputs", "attention_mask of the lanes", may_attend(both, both), expected, "exact")


def train(folder: Folder) -> Iterator[Check]:
    """Autoencoder, activations, losses and gradients of one training step."""
    expected, pack, model = folder.expected, folder.pack, folder.model
    yield from _autoencoder(folder)

    layers = folder.config.llm.num_hidden_layers
    capture = ("vit_out", "connector_out", "input_embeds", "noisy_latents", "final_norm")
    capture += tuple(f"hidden_{i}" for i in range(layers))
    forward = jax.jit(functools.partial(model.forward, capture=capture))
    out = {name: np.asarray(x)[0] for name, x in forward(folder.params, pack.batch, pack.draws).items()}
    losses = {name: np.asarray(x)[0] for name, x in sgt.token_losses(*_batched(out, pack)).items()}
    sums = {
        k: np.asarray(v)
        for k, v in sgt.loss_sums(sgt.token_losses(*_batched(out, pack)), _batched(out, pack)[1]).items()
    }
    counts = {k: np.asarray(v) for k, v in sgt.loss_counts(pack.batch, _batched(out, pack)[0]["noisy"]).items()}

    for array, got in {
        "vit_out": out["vit_out"],
        "connector_out": out["connector_out"],
        "timesteps_effective": out["t"],
        "noisy_latent_tokens": out["noisy_latents"],
        "velocity_pred": out["velocity"][pack.mse],
        "ce_logits": out["logits"],
        "ce_per_token": losses["ce"],
        "mse_per_element": losses["mse"][pack.mse],
    }.items():
        yield compare("train", array, got, expected[array])
    # These are recorded per slot of the sequence; ours stand lane by lane.
    slots = {"input_embeds": "input_embeds", "hidden_final_norm": "final_norm"}
    slots |= {f"hidden_layer_{i}": f"hidden_{i}" for i in range(layers)}
    for array, ours in slots.items():
        yield compare("train", array, out[ours], expected[array][pack.order])

    total, means = sgt.normalise(sums, counts, folder.loss_config)
    reweighted = types.SimpleNamespace(ce_weight=1.0, mse_weight=0.0, ce_loss_reweighting=True)
    yield compare("train", "loss_ce", means["ce"], expected["loss_ce"])
    yield compare("train", "loss_mse", means["mse"], expected["loss_mse"])
    yield compare("train", "loss_total", total, expected["loss_total"])
    yield compare(
        "train", "loss_ce_reweighted", sgt.normalise(sums, counts, reweighted)[0], expected["loss_ce_reweighted"]
    )

    (loss, _), gradients = folder.train_gradient(folder.trainable)
    yield compare("train", "loss_total of the gradient step", loss, expected["loss_total"])
    yield from check_gradients("train", folder.published(gradients), expected)


def alt_shift(folder: Folder) -> Iterator[Check]:
    """Times and losses under the second timestep shift."""
    pack, expected = folder.pack, folder.expected
    model = Bagel(folder.config.replace(timestep_shift=folder.settings["alt_timestep_shift"]))
    out = {k: np.asarray(x)[0] for k, x in jax.jit(model.forward)(folder.params, pack.batch, pack.draws).items()}
    losses = {name: np.asarray(x)[0] for name, x in sgt.token_losses(*_batched(out, pack)).items()}
    total, metrics = sgt.sgt_objective(*_batched(out, pack), folder.loss_config)
    for array, got in {
        "timesteps_effective": out["t"],
        "ce_per_token": losses["ce"],
        "mse_per_element": losses["mse"][pack.mse],
        "loss_ce": metrics["ce"],
        "loss_mse": metrics["mse"],
        "loss_total": total,
    }.items():
        yield compare("alt_shift", array, got, expected[f"alt_shift/{array}"])


def freeze_und(folder: Folder) -> Iterator[Check]:
    """Gradient norms with the understanding branch detached."""
    expected = folder.arrays("freeze_und_gradnorms.npz")
    gradient = folder.value_and_grad(Bagel(folder.config.replace(freeze_und=True)))
    (loss, _), gradients = gradient(folder.trainable)
    yield compare("freeze_und", "loss_total", loss, expected["loss_total"])
    yield from check_gradients("freeze_und", folder.published(gradients), expected)


def optimizer_steps(folder: Folder) -> Iterator[Check]:
    """Some AdamW steps with warm-up, clipping and EMA, on the same batch and noise."""
    settings = json.loads((folder.path / "optimizer.json").read_text())
    expected = folder.arrays("optimizer.npz")
    namespace = types.SimpleNamespace
    config = namespace(
        total_steps=settings["steps"],
        optimizer=namespace(
            name="adamw", learning_rate=settings["lr"], b1=settings["betas"][0], b2=settings["betas"][1],
            eps=settings["eps"], weight_decay=settings["weight_decay"], clip=settings["max_grad_norm"],
        ),
        schedule=namespace(name="constant", warmup_steps=settings["warmup_steps"]),
    )  # fmt: skip
    tx = optimizer.make_optimizer(config)

    @jax.jit
    def update(params: Any, ema: Any, state: Any, gradients: Any) -> Any:
        updates, state = tx.update(gradients, state, params)
        params = optax.apply_updates(params, updates)
        return params, training_step.update_ema(ema, params, settings["ema_decay"]), state, optax.tree.norm(gradients)

    params = ema = folder.trainable
    state = tx.init(params)
    losses, norms = [], []
    for _ in range(settings["steps"]):
        (loss, _), gradients = folder.train_gradient(params)
        params, ema, state, norm = update(params, ema, state, gradients)
        losses.append(loss)
        norms.append(norm)
    rates = [optimizer.schedule(config)(step) for step in range(settings["steps"])]
    yield compare("optimizer", "lr_used", np.asarray(rates), expected["lr_used"])
    yield compare("optimizer", "loss", np.asarray(losses), expected["loss"])
    yield compare("optimizer", "grad_norm_before_clip", np.asarray(norms), expected["grad_norm_before_clip"])
    for prefix, tree in (("param", params), ("ema", ema)):
        published = folder.published(tree)
        for array in expected:
            if array.startswith(prefix + "/"):
                yield compare("optimizer", array, published[array.removeprefix(prefix + "/")], expected[array])


def _batched(out: Mapping[str, np.ndarray], pack: ReferencePack) -> tuple[dict[str, np.ndarray], Any]:
    """Outputs of the single row, and the batch, as the objective takes them."""
    return {name: x[None] for name, x in out.items()}, pack.batch


def _autoencoder(folder: Folder) -> Iterator[Check]:
    """Moments and decoder output on the padded canvas, moments of every picture at its own size."""
    expected, model, params = folder.expected, folder.model, folder.params
    first = lambda x: np.asarray(x).transpose(0, 3, 1, 2)  # noqa: E731  channels first, as recorded
    pixels = folder.inputs["padded_images"].transpose(0, 2, 3, 1)
    encode = jax.jit(model.encode_moments)
    moments = first(encode(params, pixels))
    yield compare("train", "vae_moments", moments, expected["vae_moments"])
    mean, logvar = np.split(moments, 2, axis=1)
    latent = model.sample_latent(mean, logvar, folder.inputs["vae_eps"])
    yield compare("train", "vae_latent", latent, expected["vae_latent"])
    z = model.unscale_latent(expected["vae_latent"].transpose(0, 2, 3, 1))
    yield compare("train", "vae_decode", first(jax.jit(model.decode_latent)(params, z)), expected["vae_decode"])

    stride = folder.config.latent_stride
    for i, (rows, columns) in enumerate(folder.inputs["patchified_vae_latent_shapes"]):
        array = f"unpadded/vae_moments_{i}"
        if array not in expected:
            continue
        picture = pixels[i : i + 1, : rows * stride, : columns * stride]
        own_shape = (moments.shape[1], *(side // folder.config.vae.downsample for side in picture.shape[1:3]))
        if expected[array].shape != own_shape:
            note = f"recorded at {expected[array].shape}, but the picture's own size gives {own_shape}"
            yield Check("train", array, 0.0, 0.0, None, note)
        elif i and np.array_equal(expected[array], expected["vae_moments"][0]):
            yield Check("train", array, 0.0, 0.0, None, "a copy of vae_moments[0] was recorded")
        else:
            yield compare("train", array, first(encode(params, picture))[0], expected[array])


def check_gradients(section: str, got: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray]) -> Iterator[Check]:
    """Norms of all gradients, and the full ones that were recorded."""
    norms = {name: float(np.linalg.norm(g.astype(np.float64))) for name, g in got.items()}
    overall = float(np.sqrt(sum(n**2 for n in norms.values())))
    if "grad_global_norm" in expected:
        yield compare(section, "grad_global_norm", overall, expected["grad_global_norm"], "gradient")
    recorded = {array.removeprefix("gradnorm/") for array in expected if array.startswith("gradnorm/")}
    same = recorded == set(norms)
    yield Check(section, "names of the trained parameters", 0.0, 0.0, same, str(sorted(recorded ^ set(norms))[:3]))
    for array, value in expected.items():
        kind, _, name = array.partition("/")
        if kind not in ("grad", "gradnorm") or name not in norms:
            continue
        if _KEY_BIAS.match(name):
            bound = 1e-6 * overall
            yield Check(section, array, norms[name], bound, norms[name] <= bound, "zero in exact arithmetic")
        else:
            yield compare(section, array, norms[name] if kind == "gradnorm" else got[name], value, "gradient")
