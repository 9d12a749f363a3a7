"""Section "mllm": the vision tower, the text model, greedy decoding and the picture processor of Qwen2.5-VL."""

import functools
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np

from sgt_jax.batch import CAUSAL
from sgt_jax.data.layouts.omnigen2 import pictures
from sgt_jax.models.omnigen2.mllm import generation
from sgt_jax.models.omnigen2.mllm.model import Mllm
from sgt_jax.parity.checks import Check
from sgt_jax.parity.omnigen2 import prompts
from sgt_jax.parity.omnigen2.folder import Folder

_FILE = "mllm.npz"
Arrays = Mapping[str, np.ndarray]


def mllm(folder: Folder) -> Iterator[Check]:
    """Everything recorded of the language model; the three prompts share one row without padding."""
    params, config = folder.mllm
    model, recorded = Mllm(config), folder.arrays(_FILE)
    check = functools.partial(folder.check, "mllm", _FILE)
    found = prompts.recorded_pictures(recorded["pixel_values"], recorded["image_grid_thw"])
    batch = prompts.samples(recorded["input_ids"], recorded["attention_mask"], found, config)
    und, vit = prompts.lanes(batch, config, packed=True)

    yield from _pictures(folder, config)
    yield from _positions(check, und, recorded["attention_mask"])
    seen, states, logits = _forward(model, params, und, vit)
    yield from _vision(check, seen, vit, found, config)
    yield from _text(check, config, und, states, logits, recorded)
    yield from _alone(check, model, params, config, batch[-1])
    yield from _greedy(check, model, params, config, found, recorded)


def _pictures(folder: Folder, config: Any) -> Iterator[Check]:
    """The processor: patches of pictures that need no resize, and of one that does."""
    vision, recorded = config.vision, folder.arrays(_FILE)

    def read(image: np.ndarray) -> tuple[np.ndarray, list[int]]:
        frame = pictures.patches(image, vision.patch_size, vision.spatial_merge_size)
        grid = [1, image.shape[0] // vision.patch_size, image.shape[1] // vision.patch_size]
        return pictures.normalised(frame, vision.temporal_patch_size), grid

    images = [recorded[f"image_uint8_{i}"] for i in range(len(recorded["image_grid_thw"]))]
    made = [read(image) for image in images]
    check = functools.partial(folder.check, "mllm", _FILE)
    yield check("pixel_values", np.concatenate([patches for patches, _ in made]))
    yield check("image_grid_thw", np.asarray([grid for _, grid in made]))
    limits = (int(recorded[f"processor.{name}_pixels"]) for name in ("min", "max"))
    patches, grid = read(pictures.QwenRule(vision.stride, *limits)(recorded["processor.image_uint8"][:]))
    yield check("processor.pixel_values", patches)
    yield check("processor.image_grid_thw", np.asarray([grid]))


def _positions(check: Any, und: Arrays, mask: np.ndarray) -> Iterator[Check]:
    """Rotary positions; the reference gives padding 1."""
    found = prompts.padded_rows(und["position"][0], mask)
    found[mask == 0] = 1
    yield check("position_ids", found.transpose(2, 0, 1))
    last = np.where(mask[..., None] > 0, found, -1).max(axis=(1, 2))
    yield check("rope_deltas", (last + 1 - mask.shape[1])[:, None])


def _forward(model: Mllm, params: Any, und: Arrays, vit: Arrays) -> tuple[Any, Any, Any]:
    """What the model sees, its states, and its logits at the last token of every sample, in one compiled program."""
    vision, text = model.config.vision, model.config.text
    inner = ("patch_embed", *(f"block_{i}" for i in range(vision.depth)))
    layers = ("embeds", *(f"hidden_{i}" for i in range(text.num_hidden_layers - 1)))
    sample = und["sample"][0]
    last = np.asarray([np.flatnonzero(sample == i)[-1] for i in range(1, sample.max() + 1)])

    def run(params: Any, und: Arrays, vit: Arrays) -> Any:
        seen, aux = model.see(params, vit, inner)
        h, states = model.hidden(params, und, seen, layers)
        return (seen, aux), (h, states), model.logits(params, h[0, last])

    return jax.tree.map(np.asarray, jax.jit(run)(params, dict(und), dict(vit)))


def _vision(check: Any, seen: Any, vit: Arrays, found: list[prompts.Picture], config: Any) -> Iterator[Check]:
    """Our lane is in the order of windows already; the patch embedding was recorded before that."""
    tokens, aux = seen
    merge, order, cells = config.vision.spatial_merge_size, [], 0
    for picture in found:
        place = prompts.patch_fields(picture, config)[1]
        order.append(cells + np.argsort(place))
        cells += len(place)
    index = np.concatenate(order)
    yield check("vision.window_index", index)
    ends = np.asarray(list(prompts.starts(vit["window"][0])))
    yield check("vision.cu_window_seqlens", ends)
    yield check("vision.cu_window_seqlens_raw", _with_empty_windows(found, config, ends))
    patches, raster = pictures.in_cells(index, merge), np.argsort(index)
    yield check("vision.patch_embed", aux["patch_embed"][0][np.argsort(patches)])
    for i in range(config.vision.depth):
        yield check(f"vision.block{i}", aux[f"block_{i}"][0])
    yield check("vision.merger_window_order", tokens[0])
    yield check("vision.output", tokens[0][raster])


def _with_empty_windows(found: list[prompts.Picture], config: Any, ends: np.ndarray) -> np.ndarray:
    """Ends of windows as the reference counts them: it pads even a grid that windows divide, by one window more."""
    vision = config.vision
    side, out, filled = vision.window_size // vision.stride, [0], iter(ends[1:])
    for picture in found:
        rows, columns = picture.rows // vision.spatial_merge_size, picture.columns // vision.spatial_merge_size
        for i in range(rows // side + 1):
            for j in range(columns // side + 1):
                out.append(int(next(filled)) if i * side < rows and j * side < columns else out[-1])
    return np.asarray(out)


def _text(
    check: Any, config: Any, und: Arrays, states: Any, logits: np.ndarray, recorded: Arrays
) -> Iterator[Check]:
    h, aux = states
    mask = recorded["attention_mask"]
    every = [aux["embeds"], *(aux[f"hidden_{i}"] for i in range(config.text.num_hidden_layers - 1)), h]
    for i, state in enumerate(every):
        yield check(f"hidden_states.{i}", prompts.padded_rows(state[0], mask), mask > 0)
    yield check("logits_last", logits)
    # The chat pipeline shows the transformer everything but the pictures, packed to the left.
    kept = und["token"][0] != config.tokens.image_token_id
    counts = [int(np.sum(kept & (und["sample"][0] == i))) for i in range(1, len(mask) + 1)]
    packed = (np.arange(max(counts)) < np.asarray(counts)[:, None]).astype(np.int64)
    yield check("chat.text_only_mask", packed)
    yield check("chat.text_only_features", prompts.padded_rows(h[0][kept], packed), packed > 0)


def _alone(check: Any, model: Mllm, params: Any, config: Any, sample: prompts.Sample) -> Iterator[Check]:
    """A prompt without pictures in a row of its own, and without a vision lane."""
    und, _ = prompts.lanes([sample], config, packed=False)
    hidden = jax.jit(lambda params, und: model.hidden(params, und, None))(params, und)
    yield check("textonly.hidden_last", hidden)


def _greedy(
    check: Any, model: Mllm, params: Any, config: Any, found: list[prompts.Picture], recorded: Arrays
) -> Iterator[Check]:
    """Two prompts of different length, decoded with a key-value cache."""
    batch = prompts.samples(recorded["generate.input_ids"], recorded["generate.attention_mask"], found, config)
    und, vit = prompts.lanes(batch, config, packed=False)
    assert (und["mode"] == CAUSAL).all()
    length = recorded["generate.new_tokens"].shape[1]

    def run(params: Any, und: Arrays, vit: Arrays) -> Any:
        prompt = generation.read(model, params, und, model.see(params, vit) if vit else None)
        return generation.write(model, params, prompt, (-1,), length, trace=True)

    ids, _, logits = jax.jit(run)(params, und, vit)
    yield check("generate.new_tokens", np.asarray(ids))
    yield check("generate.logits", np.asarray(logits))
