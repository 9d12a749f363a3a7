"""Parity sections "transformer" and "wide": activations and velocities of the diffusion transformer, with adapters too."""

import json
import re
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sgt_jax import trees
from sgt_jax.checkpoints.names import NameMap, leaves
from sgt_jax.models.autoencoder.model import AutoencoderConfig
from sgt_jax.models.omnigen2.config import DitConfig, OmniGen2Config, TextConfig, VisionConfig
from sgt_jax.models.omnigen2.dit import Dit
from sgt_jax.models.omnigen2.dit_names import dit_names
from sgt_jax.parity.checks import Check
from sgt_jax.parity.omnigen2.activations import FILE, activations
from sgt_jax.parity.omnigen2.folder import Folder
from sgt_jax.parity.omnigen2.pack import Sample, cut, pack, samples_of

_WIDE_CONFIG = re.compile(r"`wide\.npz`: transformer config (\{.*?\})")
_BIAS, _NORM, _EMBEDDING, _SEED = 0.1, 0.2, 0.5, 0x51E90001


def dit_only(dit: DitConfig, **changes: Any) -> OmniGen2Config:
    """A config for a transformer alone: its text features come from elsewhere."""
    width = dit.text_feat_dim
    heads = next(n for n in range(1, width + 1) if width % n == 0 and width // n % 2 == 0)
    text = TextConfig(
        hidden_size=width, num_attention_heads=heads, num_key_value_heads=heads,
        mrope_section=(0, 0, width // heads // 2),
    )  # fmt: skip
    vae = AutoencoderConfig(z_channels=dit.in_channels)
    return OmniGen2Config(dit=dit, text=text, vision=VisionConfig(out_hidden_size=width), vae=vae, **changes)


def tree_of(names: NameMap, tensors: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Published arrays as our parameters."""

    def part(name: str) -> np.ndarray:
        source = names[name]
        kept = [axis for axis in source.axes if axis is not None]
        gone = [axis for axis in range(len(source.shape)) if axis not in kept]
        return np.ascontiguousarray(tensors[name].transpose(*kept, *gone).reshape(source.leaf_shape))

    return trees.nested({
        leaf.path: np.stack([part(n) for n in leaf.names]) if leaf.stacked else part(leaf.names[0])
        for leaf in leaves(names)
    })  # fmt: skip


# -- Sections ----------------------------------------------------------------------------------------------------------


def transformer(folder: Folder) -> Iterator[Check]:
    """Every recorded activation, the velocities, those with adapters, and those of a batch without references."""
    recorded, dit = folder.arrays(FILE), folder.dit_config
    samples, patch = samples_of(recorded), dit.patch_size
    row = pack(samples, patch)
    run = observed(dit_only(dit, **folder.changes))
    out, inner = run(tree_of(folder.dit_names, folder.dit_tensors), *row.arguments)
    yield from activations(folder, samples, row, out, inner)
    yield from _velocities(folder, "transformer", FILE, "out_{}", out["velocity"], samples, patch)

    merged = tree_of(folder.dit_names, folder.lora_tensors)
    with_adapters, _ = run(merged, *row.arguments)
    yield from _velocities(folder, "transformer", FILE, "lora.out_{}", with_adapters["velocity"], samples, patch)

    # The second batch in the shape of the first: it needs no program of its own.
    latents, times = recorded["plain.in.latents"], recorded["plain.in.timestep"]
    plain = [Sample(x, (), s.features, t) for x, t, s in zip(latents, times, samples)]
    sizes = [x.shape[1] for x in (row.features, row.references, row.noisy, row.times)]
    second, _ = run(tree_of(folder.dit_names, folder.dit_tensors), *pack(plain, patch, tuple(sizes)).arguments)
    got = np.stack(cut(np.asarray(second["velocity"])[0], plain, patch))
    yield folder.check("transformer", FILE, "plain.out", got)


def wide(folder: Folder) -> Iterator[Check]:
    """A transformer wider than the time embedding may be, its weights drawn by the rule of the README."""
    dit = wide_config(folder)
    names = dit_names(dit)
    tensors = {name: drawn("wide/" + name, source.shape) for name, source in names.items()}
    samples = samples_of(folder.arrays("wide.npz"))
    model = Dit(dit_only(dit, **folder.changes))
    run = jax.jit(lambda params, *arguments: model.apply({"params": params}, *arguments)[0])
    velocity = run(tree_of(names, tensors), *pack(samples, dit.patch_size).arguments)
    yield from _velocities(folder, "wide", "wide.npz", "out_{}", velocity, samples, dit.patch_size)


def wide_config(folder: Folder) -> DitConfig:
    """The config of wide.npz, which the README states."""
    with open(folder.file("README.md"), encoding="utf-8") as file:
        found = _WIDE_CONFIG.search(file.read())
    if not found:
        raise KeyError("README.md does not state the transformer config of wide.npz")
    return DitConfig(**json.loads(found[1]))


def drawn(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """A weight by the README's rule; `name` has its prefix, such as "wide/"."""
    normal = np.random.RandomState(zlib.crc32(name.encode()) ^ _SEED).standard_normal(shape)
    if len(shape) == 1:
        normal = _BIAS * normal if name.endswith("bias") else 1 + _NORM * normal
    elif name.endswith(("image_index_embedding", "embed_tokens.weight")):
        normal = _EMBEDDING * normal
    else:
        normal = normal / np.sqrt(np.prod(shape[1:]))
    return normal.astype(np.float32)


# -- Pieces ------------------------------------------------------------------------------------------------------------


def observed(config: OmniGen2Config) -> Callable[..., Any]:
    """Compiled: (parameters, *arguments of Dit) -> (velocity and the last norm over all slots, what modules gave)."""
    model = Dit(config)

    @jax.jit
    def run(params: Any, features: Any, references: Any, noisy: Any, t: Any, lanes: Any) -> Any:
        last = f"hidden_{config.dit.num_layers - 1}"
        arguments = features, references, noisy, t, lanes
        (velocity, kept), state = model.apply(
            {"params": params}, *arguments, capture=(last,), capture_intermediates=True
        )
        flow = jnp.concatenate([lanes[name]["flow"] for name in ("text", "ref", "gen")], axis=1)
        everywhere = model.apply(
            {"params": params}, kept[last], t, flow, method=lambda m, x, t, flow: m.norm_out(x, m.time(t), flow)
        )
        return {"velocity": velocity, "norm_out": everywhere}, state["intermediates"]

    return run


def _velocities(
    folder: Folder, section: str, file: str, array: str, tokens: Any, samples: list[Sample], patch: int
) -> Iterator[Check]:
    for i, got in enumerate(cut(np.asarray(tokens)[0], samples, patch)):
        yield folder.check(section, file, array.format(i), got)
