"""Where the weights of an OmniGen2 lie in a folder, whatever wrote it, and how they are streamed into parameters.

Five kinds of folders hold the transformer or the language model; what a folder lacks comes from a base folder:

- the published pipeline: `transformer/`, `mllm/`, `vae/`;
- a release of SGT: `transformer/` and `text_encoder/`, perhaps inside one more `transformer/`;
- the state of a trainer: `model.safetensors` (transformer) and `model_1.safetensors` (language model);
- that of an older trainer: one `model.safetensors` with the prefixes `model.` and `text_encoder.`;
- adapters: `pytorch_lora_weights.safetensors`, merged into the transformer of the base.
"""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from sgt_jax import trees
from sgt_jax.checkpoints import adapters, importing
from sgt_jax.checkpoints.importing import Files, Kept, Renamed, Sharding
from sgt_jax.checkpoints.safetensors import Weights
from sgt_jax.errors import CheckpointError
from sgt_jax.models.autoencoder import diffusers_names
from sgt_jax.models.omnigen2.config import OmniGen2Config
from sgt_jax.models.omnigen2.dit_names import LORA_FILE, LORA_PREFIX, WEIGHTS
from sgt_jax.models.omnigen2.export import part_names
from sgt_jax.models.omnigen2.mllm.names import published_name
from sgt_jax.models.omnigen2.mllm.published import FILE, open_weights, without_tied_head

Place = str | os.PathLike
_SECOND = "model_1.safetensors"
_OLD_MLLM, _OLD_DIT = "text_encoder.", "model."


def part_folder(part: str, folder: Place, base: Place | None) -> str:
    """The folder of one part ("transformer", "mllm" or "vae") with its config.json: in `folder`, else in `base`.

    Raises:
      CheckpointError: neither has one.
    """
    inside = {"transformer": ("transformer/transformer", "transformer"), "vae": ("vae",),
              "mllm": ("mllm", "text_encoder", "transformer/text_encoder")}[part]  # fmt: skip
    for place in (folder, base):
        for name in inside if place is not None else ():
            if os.path.exists(os.path.join(place, name, "config.json")):
                return os.path.join(place, name)
    why = f"holds no {part}/config.json" + (f", and neither does {os.fspath(base)}." if base is not None else ".")
    raise CheckpointError(folder, why, "Give a folder in the layout of OmniGen2, or a base folder that has this part.")


def is_trainer_state(folder: Place) -> bool:
    """Whether a folder holds what a trainer of the reference saves: weights at the top, beside no configs."""
    return any(os.path.exists(os.path.join(folder, name)) for name in (_SECOND, LORA_FILE)) or (
        os.path.exists(os.path.join(folder, FILE)) and not os.path.exists(os.path.join(folder, "config.json"))
    )


class Adapted:
    """The transformer's tensors with the adapters of a LoRA file added: weight + B A, as the trainer's alpha is r.

    What is read of a weight is added slice by slice; the adapters themselves are held whole.
    """

    def __init__(self, weights: Weights | Renamed, lora: Place):
        self.path = os.fspath(lora)
        self._weights, self.tensors = weights, weights.tensors
        shapes = {name.removesuffix(".weight"): tensor.shape for name, tensor in weights.tensors.items()}
        lows = adapters.bind(adapters.read_diffusers(lora, LORA_PREFIX), shapes)
        self._lows = {f"{module}.weight": low for module, low in lows.items()}

    def close(self) -> None:
        self._weights.close()

    def read(self, name: str, index: Sequence[slice] | None = None, out: np.ndarray | None = None) -> np.ndarray:
        """See WeightsFile.read."""
        got = self._weights.read(name, index, out)
        if (low := self._lows.get(name)) is not None:
            rows, columns = (slice(None),) * 2 if index is None else index
            part = low._replace(a=low.a[:, columns], b=low.b[rows])
            got[...] = part.merged(got).astype(got.dtype)
        return got


def open_transformer(folder: Place, base: Place | None) -> Weights | Renamed | Adapted:
    """The transformer's tensors under their published names.

    Raises:
      CheckpointError: there are none, or a file is damaged.
    """
    lora = os.path.join(folder, LORA_FILE)
    if os.path.exists(lora):
        if base is None:
            raise CheckpointError(lora, "holds adapters without a model.", "Name the folder that they were trained on.")
        weights = open_transformer(base, None)
        try:
            return Adapted(weights, lora)
        except BaseException:
            weights.close()
            raise
    if is_trainer_state(folder):
        return Renamed(Weights(os.path.join(folder, FILE)), _bare if _is_old(folder) else lambda name: name)
    return open_weights(part_folder("transformer", folder, base), WEIGHTS)


def open_mllm(folder: Place, base: Place | None) -> Renamed:
    """The language model's tensors under their names on disk.

    Raises:
      CheckpointError: there are none, or a file is damaged.
    """
    if os.path.exists(os.path.join(folder, LORA_FILE)) or not is_trainer_state(folder):
        return Renamed(open_weights(part_folder("mllm", folder, base)), published_name)
    if _is_old(folder):
        return Renamed(Weights(os.path.join(folder, FILE)), _of_text_encoder)
    return Renamed(Weights(os.path.join(folder, _SECOND)), published_name)


def _is_old(folder: Place) -> bool:
    """Whether one file holds both models; asked of its names, as a second file may have been lost."""
    if os.path.exists(os.path.join(folder, _SECOND)):
        return False
    with Weights(os.path.join(folder, FILE)) as weights:
        return any(name.startswith(_OLD_MLLM) for name in weights.tensors)


def _bare(name: str) -> str | None:
    """The transformer's tensors of the older file; others keep their names, so that they are refused."""
    return None if name.startswith(_OLD_MLLM) else name.removeprefix(_OLD_DIT)


def _of_text_encoder(name: str) -> str | None:
    if not name.startswith(_OLD_MLLM):
        return None
    name = name.removeprefix(_OLD_MLLM)
    inner = name.removeprefix("model.")
    return published_name(inner if published_name(inner) != inner or inner.startswith("visual.") else name)


def load_published(
    folder: Place, config: OmniGen2Config, *, base: Place | None = None, dtype: Any = None,
    sharding: Sharding | None = None, kept: Kept | None = None,
) -> tuple[dict[str, Any], str]:  # fmt: skip
    """Streams a folder of any of the kinds above into parameters {"dit", "mllm", "vae"}; see `importing.load_leaf`.

    Returns:
      The parameters, and a text that says which file each part was read from.

    Raises:
      CheckpointError: a file is absent, damaged or of another model; all wrong names stand in one message.
    """
    vae = part_folder("vae", folder, base)
    openers = {
        "transformer": lambda: open_transformer(folder, base),
        "mllm": lambda: open_mllm(folder, base),
        "vae": lambda: open_weights(vae, diffusers_names.VAE_FILE),
    }
    leaves: dict[str, Any] = {}
    lines = [f"restored from {os.fspath(folder)}"]
    for part, opener in openers.items():
        names = part_names(config, part)
        with Files([opener()]) as files:
            where = files.opened[0].path
            if part == "mllm":
                files.drop(without_tied_head(names, config.text.tie_word_embeddings))
            importing.check_names(where, files.tensors, names)
            leaves |= trees.flat(importing.load_tree(files, names, sharding, dtype, kept))
        lines.append(f"  {part}: {len(names)} tensors of {where}")
    return trees.nested(leaves), "\n".join(lines)
