"""The FLOPs of a BAGEL training step by formula: what model FLOP utilisation divides, and what the jaxpr is checked against.

Counted are the products that the model needs, once forward and twice backward: nothing that is computed again, nothing
for padding inside attention. The frozen autoencoder is left out; it runs forward only, and not at all on tokenised targets.
"""

import dataclasses
import re
from collections.abc import Mapping, Sequence

import numpy as np

from sgt_jax.batch import CAUSAL, FULL, NOISE, TokenInfo
from sgt_jax.models.attention import segment_info
from sgt_jax.models.bagel.config import BagelConfig


def forward_flops(config: BagelConfig, slots: Mapping[str, float], pairs: Mapping[str, float]) -> dict[str, float]:
    """FLOPs of one forward, by part.

    Args:
      slots: slots of lanes "und", "gen", "vit" and "labels", all rows together.
      pairs: allowed (query, key) pairs of "decoder" and "vit" attention, all rows together.
    """
    llm, vit = config.llm, config.vit
    h, hv = llm.hidden_size, vit.hidden_size
    q, kv = llm.num_attention_heads * llm.head_size, llm.num_key_value_heads * llm.head_size
    expert = 2 * (h * (2 * q + 2 * kv) + 3 * h * llm.intermediate_size) * llm.num_hidden_layers
    vit_layer = 2 * (4 * hv * hv + 2 * hv * vit.intermediate_size)
    patch = 2 * hv * vit.patch_size**2 * vit.num_channels
    return {
        "und": expert * slots["und"],
        "gen": expert * slots["gen"],
        "attention": 4 * q * llm.num_hidden_layers * pairs["decoder"],
        "head": 2 * h * llm.vocab_size * slots["labels"],
        "latents": 2 * h * (2 * config.latent_width + 256 + h) * slots["gen"],
        "vit": (patch + vit_layer * config.vit_layers) * slots["vit"] + 4 * hv * config.vit_layers * pairs["vit"],
        "connector": 2 * (hv * h + h * h) * slots["vit"],
    }


# A parameter that stands for each part, to see whether the part is frozen.
_STANDS_FOR = {
    "und": "decoder/layers/und/mlp/up_proj/kernel",
    "gen": "decoder/layers/gen/mlp/up_proj/kernel",
    "head": "decoder/lm_head/kernel",
    "vit": "vit/layers/mlp/fc1/kernel",
    "connector": "connector/fc1/kernel",
}


def training_flops(
    config: BagelConfig, slots: Mapping[str, float], pairs: Mapping[str, float], freeze: Sequence[str] = ()
) -> dict[str, float]:
    """FLOPs of forward and backward, by part. Frozen weights have no gradient, a frozen ViT has no backward pass at all."""

    def passes(part: str) -> int:
        path = _STANDS_FOR.get(part)
        frozen = path is not None and any(re.search(pattern, path) for pattern in freeze)
        return (1 if part == "vit" else 2) if frozen else 3

    return {part: flops * passes(part) for part, flops in forward_flops(config, slots, pairs).items()}


# (mode, und slots, vit slots, gen slots) per split. A 3:2 photo at 224 pixels and its map at 1024; a picture of 640x480.
_PAINTING = ((FULL, 178, 176, 0), (CAUSAL, 14, 0, 0), (NOISE, 2, 0, 2752))
_QUESTION = ((FULL, 1532, 1530, 0), (CAUSAL, 60, 0, 0), (CAUSAL, 90, 0, 0))


def _needs(splits: Sequence[Sequence[int]]) -> dict[str, int]:
    """Slots of some splits by lane."""
    return {lane: sum(split[i] for split in splits) for i, lane in ((1, "und"), (2, "vit"), (3, "gen"))}


def typical_row(budgets: Mapping[str, int]) -> tuple[TokenInfo, TokenInfo]:
    """Facts of the decoder's slots (und, then gen) and of the ViT's, [1, S] each, filled as far as budgets allow.

    Rows that are too short for one picture to paint hold two smaller ones and a question.
    """
    facts: dict[str, list[np.ndarray]] = {"und": [], "vit": [], "gen": []}
    left = {lane: budgets.get(lane, 0) for lane in facts}
    fits = all(need <= left[lane] for lane, need in _needs(_PAINTING).items())
    least = _needs((*_PAINTING, *_PAINTING, *_QUESTION))
    share = 1.0 if fits else min(1.0, *(left[lane] / least[lane] for lane in left))
    sample = image = 0
    while True:
        whole = _QUESTION if sample % 3 == 2 else _PAINTING
        wanted = [(mode, *(int(share * count) for count in counts)) for mode, *counts in whole]
        needs = _needs(wanted)
        if any(needs[lane] > left[lane] for lane in left) or not any(needs.values()):
            break
        sample += 1
        order = 0
        for number, (mode, und, vit, gen) in enumerate(wanted):
            for lane, count in (("und", und), ("gen", gen)):
                slots = np.full((4, count), sample)
                slots[1], slots[2], slots[3] = number, order + np.arange(count), mode
                facts[lane].append(slots)
                order += count
            image += vit > 0
            facts["vit"].append(np.full((1, vit), image))
        left = {lane: left[lane] - needs[lane] for lane in left}

    def lane(name: str, fields: int) -> np.ndarray:
        made = np.concatenate([np.zeros((fields, 0), np.int64), *facts[name]], axis=1)
        return np.pad(made, ((0, 0), (0, budgets.get(name, 0) - made.shape[1]))).astype(np.int32)

    sample_, split, order_, mode_ = np.concatenate([lane("und", 4), lane("gen", 4)], axis=1)[:, None]
    pictures = lane("vit", 1)
    return TokenInfo(sample_, split, order_, order_, mode_), segment_info(np.minimum(pictures, 1), pictures)


@dataclasses.dataclass(frozen=True)
class BagelCosts:
    """See `models.family.Costs`."""

    config: BagelConfig
    advice: tuple[str, ...] = ('freeze=("^vae/", "pos_embed", "^decoder/.*und/"): train the generation expert alone',)

    @property
    def attention(self) -> Mapping[str, tuple[str, ...]]:
        return {"decoder": ("und", "gen"), "vit": ("vit",)}

    def typical_row(self, budgets: Mapping[str, int]) -> dict[str, TokenInfo]:
        return dict(zip(self.attention, typical_row(budgets), strict=True))

    def training_flops(
        self, slots: Mapping[str, float], pairs: Mapping[str, float], freeze: Sequence[str] = ()
    ) -> dict[str, float]:
        return training_flops(self.config, slots, pairs, freeze)

    def activation_bytes(self, lanes: Mapping[str, int], rows: float, mesh: Mapping[str, int]) -> float:
        model, llm, vit = self.config, self.config.llm, self.config.vit
        slots = rows * (lanes["und"] + lanes["gen"]) / mesh["context"]
        patches = rows * lanes["vit"] / mesh["context"]
        width = 2 if model.dtype == "bfloat16" else 4
        if model.remat == "full_offload":
            kept = 0.0
        else:
            kept = (
                slots * llm.hidden_size * llm.num_hidden_layers + patches * vit.hidden_size * model.vit_layers
            ) * width
        tensor = mesh["tensor"]
        # One layer at work: MLP and attention tensors with their gradients.
        layer = slots * width * (6 * llm.hidden_size + 4 * (llm.intermediate_size + 2 * llm.hidden_size) / tensor)
        if model.remat in ("dots", "dots_offload", "none"):
            dots = slots * width * (2 * llm.hidden_size + (2 * llm.intermediate_size + 2 * llm.hidden_size) / tensor)
            kept += dots * llm.num_hidden_layers * (2 if model.remat == "none" else model.remat == "dots")
        # Gathered: both experts of two layers.
        weights = 2 * 2 * width * 3 * llm.hidden_size * llm.intermediate_size / tensor
        logits = rows * lanes["labels"] * llm.vocab_size * 4 * 3 / tensor / mesh["context"]
        return kept + max(layer + weights, logits)

    def exchanged_bytes(self, lanes: Mapping[str, int], rows: float, mesh: Mapping[str, int]) -> float:
        """Tensor parallelism sums what it splits twice a layer, context parallelism gathers keys and values; both again
        backwards, and for what is computed again."""
        llm, tensor, context = self.config.llm, mesh["tensor"], mesh["context"]
        passes = 2 if self.config.remat == "none" else 3
        slots = rows * (lanes["und"] + lanes["gen"])
        summed = 2 * 2 * (tensor - 1) / tensor * slots / context * llm.hidden_size
        gathered = 2 * (context - 1) / context * slots * 2 * llm.num_key_value_heads * llm.head_size / tensor
        return passes * llm.num_hidden_layers * 2 * (summed + gathered)
