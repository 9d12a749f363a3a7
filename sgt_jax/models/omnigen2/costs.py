"""The FLOPs and memory of an OmniGen2 training step by formula: what model FLOP utilisation divides, and what `plan` guesses.

Counted are the products that the model needs: once forward, once for the gradient of a weight and once for that of its
input, where these are wanted; nothing that is computed again, nothing for padding. The frozen autoencoder is left out.
"""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from sgt_jax.batch import CAUSAL, FULL, TokenInfo
from sgt_jax.models.attention import segment_info
from sgt_jax.models.omnigen2.config import OmniGen2Config
from sgt_jax.models.omnigen2.dit import TIME_FEATURES

Slots = Mapping[str, float]

# Attention -> lanes. Two of them share lane "vit": blocks within windows, and those over whole pictures.
ATTENTION = {
    "und": ("und",), "windows": ("vit",), "vit": ("vit",), "text": ("text",), "ref": ("ref",), "gen": ("gen",),
    "joint": ("text", "ref", "gen"),
}  # fmt: skip


class Stack(NamedTuple):
    """Equal layers over some lanes.

    Attributes:
      part: the name in `forward_flops`; lanes: whose slots they work on.
      layers, width, inner: number, width, and inner width of the feed-forward layers.
      keys: width of keys (and of values).
      attention: {name: layers with that mask}.
      modulated: whether the time reaches them.
    """

    part: str
    lanes: tuple[str, ...]
    layers: int
    width: int
    inner: int
    keys: int
    attention: Mapping[str, int]
    modulated: bool = False

    @property
    def kernels(self) -> int:
        """Numbers in the kernels of one layer: four of attention, three of a gated feed-forward layer."""
        return self.width * (2 * self.width + 2 * self.keys + 3 * self.inner)


def stacks(config: OmniGen2Config) -> tuple[Stack, ...]:
    """All stacks of the model."""
    dit, text, vision = config.dit, config.text, config.vision
    whole = len(set(vision.fullatt_block_indexes) & set(range(vision.depth)))
    sizes = (dit.hidden_size, dit.mlp_width, dit.num_kv_heads * dit.head_size)
    refiners = dit.num_refiner_layers

    def refiner(part: str, lane: str, modulated: bool = True) -> Stack:
        return Stack(part, (lane,), refiners, *sizes, {lane: refiners}, modulated)

    return (
        Stack(
            "und", ("und",), text.num_hidden_layers, text.hidden_size, text.intermediate_size,
            text.num_key_value_heads * text.head_size, {"und": text.num_hidden_layers},
        ),
        Stack(
            "vit", ("vit",), vision.depth, vision.hidden_size, vision.intermediate_size, vision.hidden_size,
            {"windows": vision.depth - whole, "vit": whole},
        ),
        refiner("text", "text", modulated=False),
        refiner("ref", "ref"),
        refiner("gen", "gen"),
        Stack("joint", ("text", "ref", "gen"), dit.num_layers, *sizes, {"joint": dit.num_layers}, True),
    )  # fmt: skip


def forward_flops(config: OmniGen2Config, slots: Slots, pairs: Slots) -> dict[str, float]:
    """FLOPs of one forward, by part.

    Args:
      slots: slots of the lanes, all rows together; lanes that are not there have none.
      pairs: allowed (query, key) pairs of the attentions in `ATTENTION`, all rows together.
    """
    dit, text, vision, time = config.dit, config.text, config.vision, config.dit.time_width
    flows = slots.get("flow", 0)
    flops = {}
    for s in stacks(config):
        lengths = sum(slots.get(lane, 0) for lane in s.lanes)
        flops[s.part] = 2.0 * s.layers * s.kernels * lengths
        flops[s.part] += 4 * s.width * sum(n * pairs.get(name, 0) for name, n in s.attention.items())
        if s.modulated and lengths:
            flops[s.part] += 2 * s.layers * flows * time * 4 * s.width
    cell = vision.spatial_merge_size**2
    wide = cell * vision.hidden_size
    flops["vit"] += 2 * vision.patch_width * vision.hidden_size * slots.get("vit", 0)
    flops["vit"] += 2 * wide * (wide + vision.out_hidden_size) * slots.get("vit", 0) / cell
    flops["head"] = 2.0 * text.hidden_size * text.vocab_size * slots.get("labels", 0)
    flops["text"] += 2 * dit.text_feat_dim * dit.hidden_size * slots.get("text", 0)
    for lane in ("ref", "gen"):
        flops[lane] += 2 * dit.token_width * dit.hidden_size * slots.get(lane, 0)
    output = 2.0 * dit.hidden_size * (dit.token_width * slots.get("gen", 0) + time * flows)
    flops["joint"] += output + 2 * flows * time * (TIME_FEATURES + time)
    return flops


# A parameter that stands for each part, to see whether the part is frozen.
_STANDS_FOR = {
    "vit": "mllm/vision/layers/mlp/up_proj/kernel",
    "und": "mllm/text/layers/mlp/up_proj/kernel",
    "head": "mllm/text/embed/embedding",
    "text": "dit/context_refiner/mlp/up_proj/kernel",
    "ref": "dit/ref_image_refiner/mlp/up_proj/kernel",
    "gen": "dit/noise_refiner/mlp/up_proj/kernel",
    "joint": "dit/joint/mlp/up_proj/kernel",
}
# Which parts a part's input comes from: it needs a gradient if one of them is trained.
_BEHIND = {
    "vit": (), "und": ("vit",), "head": ("und", "vit"), "text": ("und", "vit"), "ref": (), "gen": (),
    "joint": ("text", "ref", "gen", "und", "vit"),
}  # fmt: skip


def training_flops(config: OmniGen2Config, slots: Slots, pairs: Slots, freeze: Sequence[str] = ()) -> dict[str, float]:
    """FLOPs of forward and backward, by part: one pass, one more for its weights' gradient, one more for its input's.

    The first layer of a stack needs no gradient of its input where nothing is trained behind it; it counts as the others.
    A cut between the models (`freeze_mllm`) hides what is behind it from the transformer.
    """
    trained = {part: not any(re.search(pattern, path) for pattern in freeze) for part, path in _STANDS_FOR.items()}

    def passes(part: str) -> int:
        behind = _BEHIND[part]
        if config.freeze_mllm and part in ("text", "joint"):
            behind = tuple(name for name in behind if name not in ("und", "vit"))
        if trained[part]:
            return 3
        return 2 if any(trained[name] for name in behind) else 1

    return {part: flops * passes(part) for part, flops in forward_flops(config, slots, pairs).items()}


class Kind(NamedTuple):
    """Slots of one typical sample: rows and columns of cells of its picture, texts, tokens of its picture to paint."""

    cells: tuple[int, int]
    words: int
    gen: int
    ref: int = 0


# A 3:2 photo under 1280 cells with its instruction and its map of 832 x 1248; a 640 x 480 picture with a question and answer.
_PAINTING = Kind((29, 43), 60, 4056)
_QUESTION = Kind((17, 23), 190, 0)
_EDIT = Kind((0, 0), 60, 4056, 4056)


def typical_row(config: OmniGen2Config, budgets: Mapping[str, int]) -> dict[str, TokenInfo]:
    """Facts [1, S] of the attentions in `ATTENTION`, of a row filled as far as budgets allow, two paintings a question.

    Lanes without slots have no attention. Where references have room, paintings are edits that the language model does not
    see; where labels have none (fewer than 16), there are no questions. Budgets too small for one painting hold one that is
    smaller by as much.
    """
    painting = _EDIT if budgets.get("ref", 0) else _PAINTING
    kinds = (painting, painting, _QUESTION if budgets.get("labels", 0) >= 16 else painting)
    merge, window = config.vision.spatial_merge_size**2, config.vision.window_size // config.vision.stride
    shrink = min(1.0, *(budgets.get(lane, 0) / n for lane, n in _needs(painting, merge).items() if n))
    if shrink < 1:
        side = shrink**0.5
        painting = Kind(
            tuple(int(n * side) for n in painting.cells), int(painting.words * shrink), int(painting.gen * shrink),
            int(painting.ref * shrink),
        )  # fmt: skip
        kinds = (painting,)
    found: dict[str, list[np.ndarray]] = {lane: [] for lane in ("und", "vit", "text", "ref", "gen")}
    left = {lane: budgets.get(lane, 0) for lane in found}
    number = 0
    while painting.gen:
        kind = kinds[number % len(kinds)]
        needs = _needs(kind, merge)
        if any(n > left[lane] for lane, n in needs.items()):
            break
        number += 1
        left = {lane: left[lane] - needs[lane] for lane in left}
        for lane, n in needs.items():
            found[lane].append(np.stack([np.full(n, number), np.arange(n), np.zeros(n)]))
        row, column = np.divmod(np.arange(needs["vit"]) // merge, max(kind.cells[1], 1))
        # Slots stand window by window, as the layout makes them.
        names = np.sort(row // window * 1000 + column // window)
        found["vit"][-1][2] = names

    def lane(name: str) -> np.ndarray:
        made = np.concatenate([np.zeros((3, 0)), *found[name]], axis=1)
        return np.pad(made, ((0, 0), (0, budgets.get(name, 0) - made.shape[1]))).astype(np.int32)[:, None]

    lanes = {name: lane(name) for name in found}
    alone = {name: segment_info(sample, 0 * sample) for name, (sample, _, _) in lanes.items()}
    sample, order, _ = lanes["und"]
    joint = np.concatenate([lanes[name][0] for name in ATTENTION["joint"]], axis=1)
    rows = {
        "und": TokenInfo(sample, 0 * sample, order, order, 0 * sample + CAUSAL),
        "windows": segment_info(lanes["vit"][0], lanes["vit"][2]),
        **{name: alone[name] for name in ("vit", "text", "ref", "gen")},
        "joint": TokenInfo(joint, 0 * joint, 0 * joint, 0 * joint, 0 * joint + FULL),
    }
    return {name: info for name, info in rows.items() if info.sample.size}


def _needs(kind: Kind, merge: int) -> dict[str, int]:
    cells = kind.cells[0] * kind.cells[1]
    und = cells + kind.words
    return {"und": und, "vit": cells * merge, "text": und if kind.gen else 0, "ref": kind.ref, "gen": kind.gen}


@dataclasses.dataclass(frozen=True)
class OmniGen2Costs:
    """See `models.family.Costs`."""

    config: OmniGen2Config
    advice: tuple[str, ...] = (
        'model.freeze_mllm=True freeze=("^vae/", "ref_image", "image_index_embedding", "^mllm/"): variant frozen, which '
        "trains the transformer alone",
    )

    @property
    def attention(self) -> Mapping[str, tuple[str, ...]]:
        return ATTENTION

    def typical_row(self, budgets: Mapping[str, int]) -> dict[str, TokenInfo]:
        return typical_row(self.config, budgets)

    def training_flops(self, slots: Slots, pairs: Slots, freeze: Sequence[str] = ()) -> dict[str, float]:
        return training_flops(self.config, slots, pairs, freeze)

    def activation_bytes(self, lanes: Mapping[str, int], rows: float, mesh: Mapping[str, int]) -> float:
        config, tensor, context = self.config, mesh["tensor"], mesh["context"]
        width, remat = (2 if config.dtype == "bfloat16" else 4), config.remat
        kept, largest = 0.0, 0.0
        for s in stacks(config):
            slots = rows * sum(lanes.get(lane, 0) for lane in s.lanes) / context
            if remat != "full_offload":
                kept += slots * s.width * s.layers * width
            if remat in ("dots", "dots_offload", "none"):
                dots = slots * width * (2 * s.width + (2 * s.inner + s.width + 2 * s.keys) / tensor)
                kept += dots * s.layers * (2 if remat == "none" else remat == "dots")
            # One layer at work: attention and feed-forward tensors with their gradients, modulation of every slot.
            layer = slots * width * (6 * s.width + 4 * (s.inner + 2 * s.width) / tensor)
            layer += slots * width * 2 * 4 * s.width * s.modulated
            # Gathered: the kernels of two layers, and one layer's gradient in float32.
            largest = max(largest, layer + 2 * width * s.kernels / tensor + 4 * s.kernels / tensor)
        text = config.text
        # The table is gathered for the head; its logits with their gradient.
        head = text.vocab_size * (rows * lanes.get("labels", 0) * 4 * 3 / context + text.hidden_size * (width + 4))
        return kept + max(largest, head / tensor)

    def exchanged_bytes(self, lanes: Mapping[str, int], rows: float, mesh: Mapping[str, int]) -> float:
        """Tensor parallelism sums what it splits twice a layer, context parallelism gathers keys and values; both again
        backwards, and for what is computed again."""
        tensor, context = mesh["tensor"], mesh["context"]
        passes, sent = (2 if self.config.remat == "none" else 3), 0.0
        for s in stacks(self.config):
            slots = rows * sum(lanes.get(lane, 0) for lane in s.lanes)
            summed = 2 * 2 * (tensor - 1) / tensor * slots / context * s.width
            gathered = 2 * (context - 1) / context * slots * 2 * s.keys / tensor
            sent += passes * s.layers * 2 * (summed + gathered)
        return sent
