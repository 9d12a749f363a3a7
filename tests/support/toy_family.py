"""A second family, as unlike BAGEL as the face allows: one lane for all, [S, 3] positions, two sub-trees, time reversed."""

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from safetensors.flax import save_file

from sgt_jax.batch import CAUSAL, NOISE, TokenInfo
from sgt_jax.data.layouts.bagel import patchify
from sgt_jax.data.packing import Field
from sgt_jax.data.pictures.resizing import ResizeRule
from sgt_jax.models.attention import packed_attention
from sgt_jax.models.family import Family
from sgt_jax.trees import flat, nested

WIDTH, WORDS = 16, 128
NUMBER, SAMPLE = Field("int32"), Field("int32", points_to="sample")


@dataclasses.dataclass(frozen=True)
class Config:
    patch: int = 8
    remat: str = "none"
    dtype: str = "float32"
    latent_width = property(lambda self: 3 * self.patch**2)
    replace = dataclasses.replace
    to_dict = dataclasses.asdict


@dataclasses.dataclass(frozen=True)
class Settings:
    steps: int = 2
    shift: float = 1.0
    guidance: None = None
    vit: tuple[int, int] = (32, 32)


class Layout:
    """Every slot of lane "mix" is a word or a patch of pixels; a picture with loss is noisy."""

    def __init__(self, patch):
        self.patch = patch
        mix = dict.fromkeys(("token", "noisy", "split", "order", "mode"), NUMBER)
        mix |= {"sample": SAMPLE, "position": Field("int32", (3,)), "pixels": Field("uint8", (3 * patch**2,))}
        labels = {"slot": Field("int32", points_to="mix"), "target": NUMBER, "weight": Field("float32")}
        self.spec = {"mix": mix, "labels": labels | {"sample": SAMPLE}}

    def lay_out(self, plan, uniform=None, name="sample"):
        slots, labels, blank = [], [], np.zeros(3 * self.patch**2, np.uint8)
        for split, item in enumerate(plan):
            if item.type == "text":
                ids = [1, *item.data, 2]
                labels += [(len(slots) + i, target, 1, 1) for i, target in enumerate(ids[1:]) if item.loss]
                found = [(token, blank, 0, CAUSAL, (split, i, i)) for i, token in enumerate(ids)]
            else:
                columns, mode = item.data.shape[1] // self.patch, NOISE if item.loss else CAUSAL
                patches = enumerate(patchify(item.data, self.patch))
                found = [(-1, p, int(item.loss), mode, (split, *divmod(i, columns))) for i, p in patches]
            slots += [(*slot, split, len(slots) + i, 1) for i, slot in enumerate(found)]
        names = ("token", "pixels", "noisy", "mode", "position", "split", "order", "sample")
        lanes = {"mix": dict(zip(names, map(np.array, zip(*slots))))}
        if labels:
            lanes["labels"] = dict(zip(("slot", "target", "weight", "sample"), np.array(labels).T))
        return {n: {f: x.astype(self.spec[n][f].dtype) for f, x in lane.items()} for n, lane in lanes.items()}


class Model:
    """Words and patches through one layer of attention; time 0 is noise, and the velocity points to the data."""

    def __init__(self, config):
        self.config = config

    def init(self, key):
        shapes = {"reader/embed": (WORDS, WIDTH), "reader/place": (3, WIDTH), "reader/head": (WIDTH, WORDS)}
        shapes |= {"painter/into": (self.config.latent_width, WIDTH), "painter/out": (WIDTH, self.config.latent_width)}
        return nested({name: 0.1 * jax.random.normal(key, shape) for name, shape in shapes.items()})

    def draw(self, key, batch):
        rows = batch["mix"]["sample"].shape
        noise = jax.random.normal(key, (*rows, self.config.latent_width))
        return {"noise": noise, "time": jax.random.uniform(key, (rows[0], 1))}

    def noisy(self, batch):
        return (batch["mix"]["noisy"] > 0) & (batch["mix"]["sample"] > 0)

    def hidden(self, params, mix, patches, t):
        words, info = params["reader"]["embed"][jnp.maximum(mix["token"], 0)], TokenInfo.of(mix)
        x = jnp.where((mix["token"] >= 0)[..., None], words, patches @ params["painter"]["into"]) + t[..., None]
        x = x + jnp.sin(mix["position"].astype(jnp.float32)) @ params["reader"]["place"]
        return x + packed_attention(*(x[:, :, None],) * 3, info, info)[:, :, 0]

    def forward(self, params, batch, draws, capture=()):
        mix, noisy = batch["mix"], self.noisy(batch)
        data, t = mix["pixels"] / 127.5 - 1, jnp.where(noisy, draws["time"], 1.0)
        h = self.hidden(params, mix, t[..., None] * data + (1 - t[..., None]) * draws["noise"], t)
        answering = jnp.take_along_axis(h, batch["labels"]["slot"][..., None], axis=1)
        velocity = {"velocity": h @ params["painter"]["out"], "velocity_target": data - draws["noise"]}
        return {"logits": answering @ params["reader"]["head"], "noisy": noisy, **velocity}


class Steps:
    """No guidance; a text is one word, and a picture is noise plus the mean of what the painter knows."""

    def __init__(self, model):
        self.model = model

    def branches(self, plan, thought, guidance):
        return (plan,)

    def times(self, steps, shift, shape):
        return np.linspace(0, 1, steps + 1, dtype=np.float32)

    def read(self, params, batch, seeds, guidance=None):
        return self.model.hidden(params, batch["mix"], batch["mix"]["pixels"] / 127.5 - 1, jnp.ones(()))

    def write_text(self, params, context, seeds, active, temperature, max_length, greedy):
        word = jnp.argmax(context[:, -1] @ params["reader"]["head"], axis=-1)
        return jnp.stack([jnp.ones_like(word), word], axis=1), jnp.full_like(word, 2)

    def denoise(self, params, context, seeds, times, shape, guidance):
        noise = jax.vmap(lambda seed: jax.random.normal(jax.random.key(seed), (*shape, 3)))(seeds)
        return noise + (times[-1] - times[0]) * jnp.mean(context @ params["painter"]["out"])

    def encode(self, params, pixels):
        return pixels / 127.5 - 1

    def decode(self, params, z):
        return (jnp.clip(z / 2 + 0.5, 0, 1) * 255).astype(jnp.uint8)


class ToyFamily(Family):
    name, compute_fields, token_lanes, autoencoder = "toy", ("dtype",), ("mix",), None
    defaults = dict.fromkeys(("chat", "t2i", "edit", "segment"), Settings())
    config = staticmethod(lambda values: Config(**values))
    model = staticmethod(Model)
    layout = staticmethod(lambda config, tokenizer, **data: Layout(config.patch))
    steps = staticmethod(lambda model, layout, notify=None: Steps(model))
    reading_rule = staticmethod(lambda config, sides, max_pixels=None: ResizeRule(config.patch, *sides))
    painting_rule = staticmethod(lambda config: ResizeRule(config.patch, 32, 32))
    largest_side = staticmethod(lambda config: 32)

    def save(self, params, config, out, dtype=None, **options):
        Path(out).mkdir()
        names = flat(jax.eval_shape(Model(config).init, jax.random.key(0)))
        tensors = {name: jnp.asarray(params(name).read(None, np.float32)) for name in names}
        save_file(tensors, Path(out) / "toy.safetensors")
