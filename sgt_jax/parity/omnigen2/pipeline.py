"""Parity section "pipeline": pictures painted with guidance, from prompts and references, step by step."""

import functools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sgt_jax.data.pictures.resizing import ResizeRule, transform
from sgt_jax.models.layers import unpatchify_latents
from sgt_jax.models.omnigen2.guidance import Guidance, time_grid
from sgt_jax.models.omnigen2.model import OmniGen2
from sgt_jax.models.omnigen2.steps import Context, sample
from sgt_jax.parity.checks import Check
from sgt_jax.parity.omnigen2 import prompts
from sgt_jax.parity.omnigen2.folder import Folder
from sgt_jax.parity.omnigen2.pack import Sample, pack, patches
from sgt_jax.parity.omnigen2.transformer import tree_of
from sgt_jax.parity.omnigen2.vae import STRIDE, first

FILE = "pipeline.npz"
_RULE = ResizeRule(STRIDE, STRIDE, 1024, 1024**2, rule="floor")


def pipeline(folder: Folder) -> Iterator[Check]:
    """Every recorded run."""
    painter = _Painter(folder)
    for name in dict.fromkeys(array.partition(".")[0] for array in folder.arrays(FILE)):
        yield from painter.run(name)


class _Painter:
    """The whole model, and its pieces compiled for all runs."""

    def __init__(self, folder: Folder) -> None:
        self.folder, (text, of_mllm) = folder, folder.mllm
        vae, vae_config = folder.vae
        self.config = of_mllm.replace(dit=folder.dit_config, vae=vae_config)
        self.params = {"mllm": text, "vae": vae, "dit": tree_of(folder.dit_names, folder.dit_tensors)}
        self.model = OmniGen2(self.config)
        self.encode = jax.jit(self.model.encode_moments)
        self.decode = jax.jit(lambda params, z: self.model.decode_latent(params, self.model.unscale_latent(z)))
        self.understand = jax.jit(lambda params, und: self.model.mllm.hidden(params["mllm"], und, None))

    def run(self, name: str) -> Iterator[Check]:
        """One run: features, references, times, every prediction and state, the picture."""
        recorded = self.folder.arrays(FILE)
        check = functools.partial(self.folder.check, "pipeline", FILE)
        noise = recorded[f"{name}.init_noise"]
        count, patch = len(noise), self.config.dit.patch_size

        references = []
        while f"{name}.input_image_{len(references)}" in recorded:
            j = len(references)
            pixels = transform(recorded[f"{name}.input_image_{j}"], _RULE)[None]
            mean, logvar = np.split(first(self.encode(self.params, pixels)), 2, axis=1)
            yield check(f"{name}.ref_mean_{j}", mean)
            references.append(self.model.sample_latent(mean, logvar, recorded[f"{name}.ref_eps_{j}"])[0])
            yield check(f"{name}.ref_latent_{j}", references[-1])

        prompt = [recorded[f"{name}.prompt_ids_{i}"] for i in range(count)]
        negative = [recorded[f"{name}.negative_ids"]] * count
        features = self._features([*prompt, *negative])
        for kind, rows in (("prompt", features[:count]), ("negative", features[count:])):
            mask, expected = recorded[f"{name}.{kind}_mask"], recorded[f"{name}.{kind}_embeds"]
            yield check(f"{name}.{kind}_mask", (np.arange(mask.shape[1]) < [[len(x)] for x in rows]).astype(np.int64))
            yield self.folder.compare(
                "pipeline", FILE, f"{name}.{kind}_embeds", np.concatenate(rows), expected[mask > 0]
            )

        low, high = recorded[f"{name}.cfg_range"].tolist()
        scales = float(recorded[f"{name}.text_guidance"]), float(recorded[f"{name}.image_guidance"])
        guidance = Guidance(*scales, low, high)
        three = scales[1] > 1 and bool(references)
        led = [references, references, []] if three else [references, []]
        texts = [features[:count]] + [features[count:]] * (len(led) - 1)
        context = self._context(texts, led, noise)
        steps = len(recorded[f"{name}.timesteps"]) - 1
        times = time_grid(steps, noise.shape[2] * noise.shape[3])
        yield check(f"{name}.timesteps", times)
        yield from self._painted(name, context, noise, times, guidance, patch)

    def _painted(
        self, name: str, context: Context, noise: np.ndarray, times: np.ndarray, guidance: Guidance, patch: int
    ) -> Iterator[Check]:
        grid = (noise.shape[2] // patch, noise.shape[3] // patch)
        tokens = np.stack([patches(x, patch) for x in noise])
        final, path, found = jax.jit(
            lambda dit, context, tokens, times: sample(self.model, dit, context, tokens, grid, times, guidance)
        )(self.params["dit"], context, tokens, times)

        def latents(x: Any) -> np.ndarray:
            flat = jnp.reshape(x, (-1, *x.shape[-2:]))
            z = first(unpatchify_latents(flat, grid, patch))
            return z.reshape(*x.shape[:-2], *z.shape[1:])

        steps, check = len(times) - 1, functools.partial(self.folder.check, "pipeline", FILE)
        predictions = latents(found)
        # Where guidance does not act, only the main branch was recorded.
        order = [p for i in range(steps) for p in predictions[i][: None if guidance.acts(i, steps) else 1]]
        yield check(f"{name}.predictions", np.stack(order))
        yield check(f"{name}.latents", latents(path))
        z = unpatchify_latents(final, grid, patch)
        yield check(f"{name}.image", np.clip(np.asarray(self.decode(self.params, z)) / 2 + 0.5, 0, 1))

    def _features(self, ids: list[np.ndarray]) -> list[np.ndarray]:
        width = max(len(row) for row in ids)
        padded = np.stack([np.pad(row, (0, width - len(row))) for row in ids])
        mask = np.stack([np.arange(width) < len(row) for row in ids]).astype(int)
        und, _ = prompts.lanes(prompts.samples(padded, mask, (), self.config), self.config, packed=False)
        h = np.asarray(self.understand(self.params, und))
        return [h[i, : len(row)] for i, row in enumerate(ids)]

    def _context(self, texts: list[Any], references: list[Any], noise: np.ndarray) -> Context:
        """Rows branch by branch; every row has the slots of the longest."""
        patch = self.config.dit.patch_size
        rows = [
            [Sample(x, tuple(np.asarray(r) for r in refs), f, 0.0)]
            for branch, refs in zip(texts, references)
            for f, x in zip(branch, noise)
        ]
        packs = [pack(row, patch) for row in rows]
        size = [
            max(x.shape[1] for x in each)
            for each in zip(*((p.features, p.references, p.noisy, p.times) for p in packs))
        ]
        packs = [pack(row, patch, tuple(size)) for row in rows]
        lanes = {
            name: {f: np.concatenate([p.lanes[name][f] for p in packs]) for f in packs[0].lanes[name]}
            for name in ("text", "ref", "gen")
        }
        features = np.concatenate([p.features for p in packs])
        read = jax.jit(lambda dit, x, lane: self.model.dit.apply({"params": dit}, x, lane, method="read"))
        text = read(self.params["dit"], features, lanes["text"])
        tokens = np.concatenate([p.references for p in packs])
        shift = jnp.asarray(lanes["gen"]["position"][:, 0, 0])
        return Context(None, text, jnp.asarray(tokens), lanes["text"], jax.tree.map(jnp.asarray, lanes["ref"]), shift)
