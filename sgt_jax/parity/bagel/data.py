"""Parity sections about data: how samples are packed and dropped, which plans tasks make, how pictures are resized."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from sgt_jax.batch import TokenInfo, may_attend
from sgt_jax.data import tasks
from sgt_jax.data.examples import Example, PlanItem, Turn
from sgt_jax.data.layouts.bagel import BagelLayout, patchify
from sgt_jax.data.packing import Lanes, pack
from sgt_jax.data.pictures.reading import to_rgb
from sgt_jax.data.pictures.resizing import ResizeRule, resize, resize_rule, transform
from sgt_jax.models.bagel.names import patch_conv_to_linear
from sgt_jax.parity.bagel.folder import Folder, special_tokens
from sgt_jax.parity.checks import Check, compare

_RULES = {"out_wh": "sgt", "out_wh_sgt": "sgt", "out_wh_upstream": "bagel"}


# -- Sections ----------------------------------------------------------------------------------------------------------


def packing(folder: Folder) -> Iterator[Check]:
    """Single samples of every kind of plan through the layout."""
    recorded = folder.arrays("packing_cases.npz")
    for number, case in enumerate(folder.json("packing_cases.json")):
        expected = _below(recorded, f"case{number}/")
        plan = make_plan(case["sequence_plan"], case["text_ids_list"], case["image_hw"])
        uniform = iter(expected["uniform_draws"])
        layout = _layout(folder, [plan], dict.fromkeys(("text", "vit_image", "vae_image"), 0.0))
        laid = layout.lay_out(tuple(plan), lambda uniform=uniform: next(uniform))
        yield from check_packed("packing", f"case{number}/", [laid], layout, expected)
        left = len(list(uniform))
        yield Check("packing", f"case{number}/uniform_draws", left, 0.0, left == 0, "draws left over" if left else "")


def dropout(folder: Folder) -> Iterator[Check]:
    """The samples of the training pack under condition dropout with the recorded draws."""
    recorded, samples = folder.arrays("pack_dropout.npz"), folder.json("samples.json")
    plans = [
        make_plan(sample["sequence_plan"], sample["text_ids_list"], [shape[1:] for shape in sample["image_shapes"]])
        for sample in (samples["samples"][name] for name in samples["order_in_pack"])
    ]
    probabilities = dict(zip(("text", "vit_image", "vae_image"), recorded["probs_text_vit_vae"]))
    layout = _layout(folder, plans, probabilities)
    uniform = iter(recorded["uniform_draws"])
    laid = [layout.lay_out(tuple(plan), lambda: next(uniform)) for plan in plans]
    yield from check_packed("dropout", "", laid, layout, recorded)
    left = len(list(uniform))
    yield Check("dropout", "uniform_draws", left, 0.0, left == 0, "draws left over" if left else "")


def samples(folder: Folder) -> Iterator[Check]:
    """Plans, token ids and pictures that tasks make of raw texts and pictures."""
    recorded, pictures = folder.json("samples.json"), folder.arrays("sample_images.npz")
    specs = {kind: transform_spec(values, folder.resize_rule) for kind, values in recorded["transforms"].items()}
    known = {tuple(folder.toy_ids(text)): text for text in _texts(recorded["texts"])}
    for name, sample in recorded["samples"].items():
        lost = [ids for ids in sample["text_ids_list"] if tuple(ids) not in known]
        yield Check("samples", f"{name}/text_ids", len(lost), 0.0, not lost, f"no text has the ids {lost}" * bool(lost))
        shown = list(_pictures(folder, name, sample, pictures, specs))
        for i, picture in enumerate(shown):
            yield compare("samples", f"{name}/image_{i}", picture.transpose(2, 0, 1), pictures[f"{name}/image_{i}"])
        shapes = np.asarray([[3, *picture.shape[:2]] for picture in shown])
        yield compare("samples", f"{name}/image_shapes", shapes, np.asarray(sample["image_shapes"]), "exact")

        tokens = sum(len(ids) for ids in sample["text_ids_list"])
        kinds = [item["type"] for item in sample["sequence_plan"] if item["type"] != "text"]
        for kind, (_, height, width) in zip(kinds, sample["image_shapes"]):
            side = folder.config.vit.patch_size if kind == "vit_image" else folder.config.latent_stride
            tokens += (height // side) * (width // side)
        yield compare("samples", f"{name}/num_tokens", tokens, sample["num_tokens"], "exact")
        if example := _conversation(name, recorded["texts"], pictures):
            vlm = specs["vlm"]
            task = tasks.Understanding(
                folder.toy_ids, lambda image, n=1, vlm=vlm: resize(image, vlm.size(image.shape[1], image.shape[0], n))
            )
            yield from _same_plan(name, task(example, np.random.default_rng(0)).plan, sample)


def resizing(folder: Folder) -> Iterator[Check]:
    """Output sizes of the resize rules; the columns say which rules the folder knows."""
    cases = folder.json("resize_cases.json")
    for column in dict.fromkeys(name for case in cases for name in case if name in _RULES):
        mine = [case for case in cases if column in case]
        got = [
            resize_rule(
                *case["in_wh"], case["stride"], case["min_size"], case["max_size"], case["max_pixels"],
                case["img_num"], _RULES[column],
            )
            for case in mine
        ]  # fmt: skip
        yield compare("resize", column, np.asarray(got), np.asarray([case[column] for case in mine]), "exact")


def pictures(folder: Folder) -> Iterator[Check]:
    """Resizing and normalising, transparency, patches, and the two forms of the patch embedding."""
    recorded = folder.arrays("images.npz")

    def check(array: str, got: Any, kind: str = "value") -> Iterator[Check]:
        if array in recorded:
            yield compare("images", array, got, recorded[array], kind)

    spec = transform_spec(folder.json("image_transform_config.json"), folder.resize_rule)
    yield from check("rgb_transformed", transform(recorded["rgb_in"], spec).transpose(2, 0, 1))
    yield from check("rgba_to_rgb", to_rgb(Image.fromarray(recorded["rgba_in"])), "exact")
    patch = recorded["conv_weight"].shape[-1]
    yield from check("patchify_out", patchify(recorded["patchify_in"].transpose(1, 2, 0), patch))
    yield from check("linear_weight", patch_conv_to_linear(recorded["conv_weight"]))


def stream(folder: Folder) -> Iterator[Check]:
    """The reference's greedy packer, which loses samples; ours fills several budgets at once and loses none."""
    del folder
    yield Check("packing_stream", "packing_stream.json", 0.0, 0.0, None, "not applicable: our packer loses no sample")


# -- Pieces ------------------------------------------------------------------------------------------------------------


def transform_spec(values: Mapping[str, Any], rule: str) -> ResizeRule:
    """A transform as the recorded JSON files describe it."""
    limits = {"max_pixels": values["max_pixels"]} if "max_pixels" in values else {}
    return ResizeRule(values["image_stride"], values["min_image_size"], values["max_image_size"], rule=rule, **limits)


def make_plan(
    items: Sequence[Mapping], texts: Sequence[Sequence[int]], sizes: Sequence[Sequence[int]]
) -> list[PlanItem]:
    """A recorded sequence plan with its texts, and black pictures of the recorded (height, width)."""
    texts, sizes = iter(texts), iter(sizes)
    return [
        PlanItem(
            type=item["type"],
            data=next(texts) if item["type"] == "text" else np.zeros((*next(sizes), 3), np.uint8),
            loss=bool(item["loss"]),
            droppable=bool(item["enable_cfg"]),
            closing_label=item["special_token_label"] if item["special_token_loss"] else None,
            split_start=item.get("split_start", True),
            split_end=item.get("split_end", True),
            frame_delta=item.get("frame_delta"),
        )
        for item in items
    ]


def check_packed(
    section: str, prefix: str, laid: Sequence[Lanes], layout: BagelLayout, expected: Mapping[str, np.ndarray]
) -> Iterator[Check]:
    """Compares samples, packed into one row, with the arrays of the reference's packer (one sequence, index arrays)."""
    budgets = {lane: sum(len(next(iter(s.get(lane, {"": ()}).values()))) for s in laid) for lane in layout.spec}
    got = as_sequence(pack(laid, layout.spec, budgets), layout, expected.get("normal_draws", np.zeros(0)))
    for array, value in expected.items():
        if array in ("uniform_draws", "probs_text_vit_vae", "flex_equals_nested"):
            continue  # settings and draws
        if array == "normal_draws":
            yield compare(section, prefix + array, got["times drawn"], len(value), "exact")
            continue
        if array in ("split_lens", "attn_modes", "sample_lens"):
            value = value[:-1]  # the last entry is the padding
        if array == "packed_timesteps":
            yield _same_times(section, prefix + array, got[array], value)
            continue
        kind = "value" if array == "ce_loss_weights" else "exact"
        yield compare(section, prefix + array, got[array], value, kind)
    # What the reference does not mention must be empty in ours.
    for array in ("packed_label_ids", "packed_vit_token_indexes", "packed_vae_token_indexes", "mse_loss_indexes"):
        if array not in expected:
            yield Check(section, prefix + array, len(got[array]), 0.0, not len(got[array]), "absent in the reference")


def as_sequence(row: Mapping[str, Any], layout: BagelLayout, normals: np.ndarray) -> dict[str, np.ndarray]:
    """A row of lanes without padding -> the reference's arrays, with all slots in one sequence."""
    und, gen = row["und"], row["gen"]
    both = TokenInfo(*(np.concatenate([und[name], gen[name]]) for name in TokenInfo._fields))
    sequence = np.lexsort([both.order, both.sample])  # place in the sequence -> slot of concat(und, gen)
    place = np.argsort(sequence)  # and back
    info = TokenInfo(*(x[sequence] for x in both))
    gen_place, und_place = place[len(und["token"]) :], place[: len(und["token"])]
    token = np.concatenate([und["token"], np.full(len(gen_place), -1)])[sequence]
    seen = np.concatenate([und["vit"], np.full(len(gen_place), -1)])[sequence]
    is_gen = sequence >= len(und_place)
    latents = sequence[is_gen] - len(und_place)  # gen slots in sequence order
    splits = np.flatnonzero(np.diff(info.sample * (info.split.max(initial=0) + 1) + info.split, prepend=-1))
    starts = np.flatnonzero(np.diff(info.sample, prepend=0))

    # A picture is a run of latents: two runs are never adjacent, because markers stand between them.
    runs = np.split(np.flatnonzero(is_gen), np.flatnonzero(np.diff(np.flatnonzero(is_gen)) > 1) + 1)
    table = np.zeros(len(sequence), np.int64)
    table[gen_place] = gen["table"]
    shapes = [[len(np.unique(table[run] // layout.latent_side)), 0] for run in runs if len(run)]
    for shape, run in zip(shapes, runs):
        shape[1] = len(run) // shape[0]

    noisy = gen["noisy"][latents] > 0
    draws, times = {}, []
    for slot, is_noisy in zip(gen["time"][latents], noisy):
        if is_noisy:  # one normal draw per split, in the order in which splits come
            draws.setdefault(int(slot), len(draws))
        number = draws.get(int(slot)) if is_noisy else None
        times.append(-np.inf if number is None else normals[number] if number < len(normals) else np.nan)
    labels = np.argsort(und_place[row["labels"]["slot"]], kind="stable")
    lens = np.diff(np.flatnonzero(np.diff(row["vit"]["sample"] * 10**6 + row["vit"]["image"], prepend=0)),
                   append=len(row["vit"]["image"]))  # fmt: skip
    return {
        "packed_text_ids": token[token >= 0],
        "packed_text_indexes": np.flatnonzero(token >= 0),
        "packed_position_ids": info.position,
        "packed_vit_token_indexes": np.flatnonzero(seen >= 0),
        "packed_vit_position_ids": row["vit"]["table"][seen[seen >= 0]],
        "vit_token_seqlens": lens,
        "packed_vae_token_indexes": np.flatnonzero(is_gen),
        "packed_latent_position_ids": gen["table"][latents],
        "patchified_vae_latent_shapes": np.asarray(shapes).reshape(-1, 2),
        "packed_timesteps": np.asarray(times),
        "times drawn": np.asarray(len(draws)),
        "mse_loss_indexes": np.flatnonzero(is_gen)[noisy],
        "packed_label_ids": row["labels"]["target"][labels],
        "ce_loss_indexes": und_place[row["labels"]["slot"]][labels],
        "ce_loss_weights": row["labels"]["weight"][labels],
        "sample_lens": np.diff(starts, append=len(sequence)),
        "sequence_length": np.asarray(len(sequence)),
        "split_lens": np.diff(splits, append=len(sequence)),
        "attn_modes": info.mode[splits],
        "attention_mask": may_attend(info, info),
    }


def _same_times(section: str, array: str, got: np.ndarray, expected: np.ndarray) -> Check:
    """Raw times, where minus infinity marks a clean picture."""
    clean = np.isneginf(expected)
    if got.shape != expected.shape or not np.array_equal(np.isneginf(got), clean):
        return Check(section, array, float("inf"), 0.0, False, "other slots are clean")
    return compare(section, array, np.where(clean, 0, got).astype(np.float32), np.where(clean, 0, expected), "exact")


def _layout(folder: Folder, plans: Sequence[Sequence[PlanItem]], probabilities: Mapping[str, float]) -> BagelLayout:
    config = folder.config
    return BagelLayout(
        tokens=special_tokens(config),
        vit_patch=config.vit.patch_size,
        vit_side=config.vit_max_num_patch_per_side,
        latent_stride=config.latent_stride,
        latent_side=config.max_latent_size,
        canvases=tuple(sorted({i.data.shape[:2] for plan in plans for i in plan if i.type == "vae_image"})),
        interpolate_positions=config.interpolate_pos,
        dropout=probabilities,
    )


def _below(arrays: Mapping[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {name.removeprefix(prefix): x for name, x in arrays.items() if name.startswith(prefix)}


def _texts(texts: Mapping[str, Any]) -> Iterator[str]:
    """All texts that a plan may hold; instructions of several steps also joined, as edits that skip a picture do."""
    for value in texts.values():
        steps = [value] if isinstance(value, str) else value
        yield from steps
        for start in range(len(steps) if steps is value else 0):
            for stop in range(start + 1, len(steps) + 1):
                yield "".join(step + ". " for step in steps[start:stop])


def _pictures(
    folder: Folder, name: str, sample: Mapping, arrays: Mapping[str, np.ndarray], specs: Mapping[str, ResizeRule]
) -> Iterator[np.ndarray]:
    """The picture tensors of a sample, from its sources, in the order in which the reference makes them."""
    items = [item for item in sample["sequence_plan"] if item["type"] != "text"]
    if f"source/{name}_mask" in arrays:
        photo, mask = arrays[f"source/{name}_image"], arrays[f"source/{name}_mask"]
        yield transform(photo, specs["vit"])
        # The reference brings the mask to the photo's size first, with a filter that blends its colours.
        yield transform(resize(mask, (photo.shape[1], photo.shape[0])), specs["vae"])
        yield transform(photo, specs["vae"])  # made, but never consumed
        return
    several = [arrays[source] for source in sorted(arrays) if re.fullmatch(rf"source/{re.escape(name)}_\d+", source)]
    sources = several or ([arrays[f"source/{name}"]] if items else [])
    place = 0
    for number, item in enumerate(items):
        conversation = not any(other["type"] == "vae_image" for other in items)
        if conversation:  # its pictures share the pixel budget
            yield transform(sources[number if several else 0], specs["vlm"], len(items))
            continue
        spec = specs["vit" if item["type"] == "vit_image" else "vae"]
        if number == 0 or (item["type"] == "vae_image" and item["loss"]):
            # Another picture of the edit's series. Which one was drawn is not recorded: it is the one that fits.
            later = range(place + 1 if number else 0, len(sources))
            recorded = arrays[f"{name}/image_{number}"].transpose(1, 2, 0)
            place = min(later, key=lambda i: _distance(transform(sources[i], spec), recorded))  # noqa: B023
        yield transform(sources[place], spec)


def _distance(picture: np.ndarray, recorded: np.ndarray) -> float:
    return float(np.abs(picture - recorded).max()) if picture.shape == recorded.shape else np.inf


def _conversation(name: str, texts: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Example | None:
    """The conversations among the samples as examples; None for other samples."""
    if name == "text_only" and "to_q" in texts:
        turns = (Turn("user", texts["to_q"]), Turn("assistant", texts["to_a"]))
        return Example(name, turns=turns)
    if name == "vqa" and "source/vqa" in arrays and "q1" in texts:
        pairs = [(texts[f"q{i}"], texts[f"a{i}"]) for i in range(1, 10) if f"q{i}" in texts]
        turns = tuple(Turn(*turn) for q, a in pairs for turn in (("user", q), ("assistant", a)))
        return Example(name, image=arrays["source/vqa"], turns=turns)
    return None


def _same_plan(name: str, plan: Sequence[PlanItem], sample: Mapping[str, Any]) -> Iterator[Check]:
    got = [(item.type, item.loss, item.droppable) for item in plan]
    expected = [(item["type"], bool(item["loss"]), bool(item["enable_cfg"])) for item in sample["sequence_plan"]]
    yield Check("samples", f"{name}/sequence_plan", 0.0, 0.0, got == expected, "" if got == expected else f"{got}")
    ids = [list(item.data) for item in plan if item.type == "text"]
    yield Check("samples", f"{name}/text_ids of the task", 0.0, 0.0, ids == sample["text_ids_list"])


# Section -> (the files that it needs, its function).
SECTIONS = {
    "packing": (("packing_cases.npz", "packing_cases.json"), packing),
    "dropout": (("pack_dropout.npz", "samples.json"), dropout),
    "samples": (("samples.json", "sample_images.npz"), samples),
    "resize": (("resize_cases.json",), resizing),
    "images": (("images.npz", "image_transform_config.json"), pictures),
    "packing_stream": (("packing_stream.json",), stream),
}
