"""The parity section of inference: caches, greedy text, guided trajectories, pictures, all from the source pictures.

Which contexts and trajectories there are, and what each has read, is taken from the names of the recorded arrays.
"""

import functools
import re
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sgt_jax.data import packing
from sgt_jax.data.examples import PlanItem
from sgt_jax.data.layouts.bagel import BagelLayout, patchify, table_positions
from sgt_jax.data.pictures.resizing import resize
from sgt_jax.models.autoencoder import model
from sgt_jax.models.autoencoder.model import to_unit_range
from sgt_jax.models.bagel import guidance as bagel_guidance
from sgt_jax.models.bagel import sampling
from sgt_jax.parity.bagel.data import transform_spec
from sgt_jax.parity.bagel.folder import Folder, special_tokens
from sgt_jax.parity.checks import Check, compare

SECTION = "inference"


def inference(folder: Folder) -> Iterator[Check]:
    """Everything in inference.npz."""
    recorded = folder.arrays("inference.npz")
    settings = folder.json("inference.json")
    runner = _Runner(folder, recorded, settings)
    names = dict.fromkeys(array.partition("/")[0] for array in recorded)
    for name in names:
        if f"{name}/text_ids" in recorded:
            yield from runner.inputs(name)
        if any(re.fullmatch(rf"{re.escape(name)}/[kv]_\d+", array) for array in recorded):
            yield from runner.cache(name)
        if f"{name}/generated_ids" in recorded:
            yield from runner.text(name)
        if f"{name}/init_noise" in recorded:
            yield from runner.trajectory(name)


class _Runner:
    """Builds contexts from the recorded pictures and prompts, and runs the sampling code on them."""

    def __init__(self, folder: Folder, recorded: Mapping[str, np.ndarray], settings: Mapping[str, Any]) -> None:
        self.folder, self.recorded, self.settings = folder, recorded, settings
        self.model, self.params, self.config = folder.model, folder.params, folder.config
        rule = folder.resize_rule
        self.transforms = {kind: transform_spec(settings[f"{kind}_transform"], rule) for kind in ("vae", "vit")}
        self.bases = sorted(n.partition("/")[0] for n in recorded if n.endswith("/text_ids"))
        plans = {base: self.plan(base) for base in self.bases}
        canvases = {item.data.shape[:2] for plan in plans.values() for item in plan if item.type == "vae_image"}
        self.layout = BagelLayout(
            tokens=special_tokens(self.config),
            vit_patch=self.config.vit.patch_size,
            vit_side=self.config.vit_max_num_patch_per_side,
            latent_stride=self.config.latent_stride,
            latent_side=self.config.max_latent_size,
            canvases=tuple(sorted(canvases)),
            interpolate_positions=self.config.interpolate_pos,
        )
        self._read = jax.jit(functools.partial(sampling.read, self.model))

    def base(self, name: str) -> str:
        """The recorded inputs that a context or trajectory shares: "edit" for "edit_channel" and "edit_img_ctx"."""
        return max((base for base in self.bases if name == base or name.startswith(base + "_")), key=len)

    def pictures(self, base: str) -> dict[str, np.ndarray]:
        """uint8 pictures as the two encoders see them: resized by the VAE's rule first, then each by its own."""
        source = self.recorded[f"{base}/image_rgb"]
        first = resize(source, self.transforms["vae"].size(source.shape[1], source.shape[0]))
        size = first.shape[1], first.shape[0]
        out = {kind: resize(first, spec.size(*size)) for kind, spec in self.transforms.items()}
        return {"first": first, **out}

    def plan(self, base: str) -> list[PlanItem]:
        """What the main context of a base has read."""
        text = PlanItem("text", self.recorded[f"{base}/text_ids"].tolist())
        if f"{base}/image_rgb" not in self.recorded:
            return [text]
        pictures = self.pictures(base)
        seen = [PlanItem("vit_image", pictures["vit"])]
        if f"{base}/vae_image" in self.recorded or f"{base}/vae_eps" in self.recorded:
            seen.insert(0, PlanItem("vae_image", pictures["vae"]))
        return [*seen, text]

    def context(self, base: str, branches: tuple[str, ...] = ("main",)) -> sampling.Context:
        """Contexts of some branches, one a row."""
        plan = self.plan(base)
        cut = {"main": plan, "text": bagel_guidance.without_last_text(plan), "image": bagel_guidance.texts_only(plan)}
        laid = [self.layout.lay_out(tuple(cut[branch])) for branch in branches]
        batch = packing.stack_samples(laid, self.layout.spec, packing.lane_budgets(laid, self.layout.spec))
        noise = {name: jnp.zeros(x.shape) for name, x in self.model.draw(jax.random.key(0), batch)["vae"].items()}
        if f"{base}/vae_eps" in self.recorded:
            eps = self.recorded[f"{base}/vae_eps"].transpose(0, 2, 3, 1)
            # Every row that holds the picture holds the same draw; in other rows nothing points to the canvas.
            noise = {name: jnp.broadcast_to(eps, x.shape) for name, x in noise.items() if x.shape[2:] == eps.shape[1:]}
        return self._read(self.params, batch, noise)

    # -- Checks --------------------------------------------------------------------------------------------------------

    def check(self, array: str, got: Any, kind: str = "value") -> Iterator[Check]:
        if array in self.recorded:
            yield compare(SECTION, array, got, self.recorded[array], kind)

    def inputs(self, base: str) -> Iterator[Check]:
        """Prompt ids and pictures, from text and source picture."""
        if prompt := self.settings.get(base, {}).get("prompt"):
            yield from self.check(f"{base}/text_ids", np.asarray(self.folder.toy_ids(prompt)), "exact")
        if f"{base}/image_rgb" not in self.recorded:
            return
        pictures = self.pictures(base)
        yield from self.check(f"{base}/image_after_vae_resize", pictures["first"], "exact")
        vae, vit = (np.asarray(to_unit_range(jnp.asarray(pictures[kind]))) for kind in ("vae", "vit"))
        yield from self.check(f"{base}/vae_image", vae.transpose(2, 0, 1)[None])
        patch, side = self.config.vit.patch_size, self.config.vit_max_num_patch_per_side
        yield from self.check(f"{base}/vit_tokens", patchify(vit, patch))
        table = table_positions(vit.shape[0] // patch, vit.shape[1] // patch, side, self.config.interpolate_pos)
        yield from self.check(f"{base}/vit_position_ids", table, "exact")

    def cache(self, name: str) -> Iterator[Check]:
        """Keys and values in sequence order, length and next position."""
        branch = "text" if name.endswith("_img_ctx") else "main"
        context = self.context(self.base(name), (branch,))
        info = context.cache.info
        real = np.flatnonzero(np.asarray(info.sample[0]))
        slots = real[np.argsort(np.asarray(info.order[0])[real])]
        yield from self.check(f"{name}/kv_len", len(slots), "exact")
        yield from self.check(f"{name}/next_rope", context.position[0], "exact")
        for array in self.recorded:
            if match := re.fullmatch(rf"{re.escape(name)}/([kv])_(\d+)", array):
                values = context.cache.keys if match[1] == "k" else context.cache.values
                yield from self.check(array, np.asarray(values[int(match[2])][0])[slots])

    def text(self, name: str) -> Iterator[Check]:
        """Greedy ids and the logits of every step."""
        ids = self.recorded[f"{name}/generated_ids"]
        length = self.settings.get(name, {}).get("max_length", len(ids))
        bos, eos = self.layout.tokens.bos, self.layout.tokens.eos
        write = jax.jit(
            lambda params, context: sampling.write_text(self.model, params, context, bos, eos, length, trace=True)
        )
        got, count, logits = write(self.params, self.context(self.base(name)))
        steps = int(count[0])
        logits = np.asarray(logits[0, :steps])
        yield from self.check(f"{name}/generated_ids", np.asarray(got[0, :steps]), "exact")
        yield from self.check(f"{name}/logits", logits)
        if logits.shape[0]:
            top = np.sort(logits, axis=-1)
            # The gap is a difference of two logits, so it is as uncertain as they are.
            bound = 2e-5 * float(np.abs(logits).max()) + 2e-6
            margin = self.recorded.get(f"{name}/top2_margin")
            if margin is not None and margin.shape == (steps,):
                error = float(np.abs(top[:, -1] - top[:, -2] - margin).max())
                yield Check(SECTION, f"{name}/top2_margin", error, bound, error <= bound)

    def trajectory(self, name: str) -> Iterator[Check]:
        """Latents and guided velocities of every step, the decoded picture and its 8-bit form."""
        recorded, config, base = self.recorded, self.config, self.base(name)
        asked = {**self.settings.get("common", {}), **self.settings.get(name, {})}
        low, high = asked.get("cfg_interval", (0.0, 1.0))
        guidance = bagel_guidance.Guidance(
            text_scale=asked.get("cfg_text_scale", 1.0),
            image_scale=asked.get("cfg_img_scale", 1.0),
            low=low,
            high=high,
            renorm=asked.get("cfg_renorm_type", "global"),
            renorm_min=asked.get("cfg_renorm_min", 0.0),
        )
        times = bagel_guidance.time_grid(asked["num_timesteps"] - 1, asked["timestep_shift"])
        inside = (times[:-1] > low) & (times[:-1] <= high)
        scales = [np.where(inside, scale, 1.0) for scale in (guidance.text_scale, guidance.image_scale)]
        yield from self.check(f"{name}/t_and_scales", np.stack([times[:-1], *scales], axis=1))

        height, width = (int(side) for side in recorded[f"{name}/image_shape"])
        grid = height // config.latent_stride, width // config.latent_stride
        table = table_positions(*grid, config.max_latent_size, config.interpolate_pos)
        yield from self.check(f"{name}/vae_position_ids", table, "exact")
        every = self.context(base, ("main", "text", "image"))
        for row, array in enumerate(("position_ids", "cfg_text_position_ids", "cfg_img_position_ids")):
            # One position for the whole block: both markers and every latent.
            yield from self.check(f"{name}/{array}", np.full(len(table) + 2, int(every.position[row])), "exact")

        noise = jnp.asarray(recorded[f"{name}/init_noise"])[None]
        tokens = self.layout.tokens
        paint = jax.jit(
            lambda params, context, noise: sampling.denoise(
                self.model, params, context, noise, grid, jnp.asarray(times), guidance, tokens.soi, tokens.eoi, True
            )
        )
        context = self.context(base, bagel_guidance.branch_names(guidance))
        final, x, v = paint(self.params, context, noise)
        yield from self.check(f"{name}/x", np.concatenate([x[:, 0], final]), "sampled")
        yield from self.check(f"{name}/v", v[:, 0], "sampled")
        decoded = jax.jit(self.model.pictures, static_argnums=2)(self.params, final, grid)
        yield from self.check(f"{name}/decoded", np.asarray(decoded).transpose(0, 3, 1, 2), "sampled")
        if f"{name}/image_uint8" in recorded:
            yield from self.check(f"{name}/image_uint8", model.to_bytes(decoded)[0], "byte")


# Section -> (the files that it needs, its function).
SECTIONS = {SECTION: (("inference.npz", "inference.json"), inference)}
