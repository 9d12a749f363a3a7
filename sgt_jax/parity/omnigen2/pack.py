"""Recorded batches of the diffusion transformer as one row of packed lanes, and the way back to the recorded order."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sgt_jax.data.layouts.omnigen2.latents import rotary_positions

Arrays = Mapping[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Sample:
    """One recorded sample: its latents [C, h, w], references, time and text features [n, TF]."""

    latent: np.ndarray
    references: tuple[np.ndarray, ...]
    features: np.ndarray
    time: float

    def lengths(self, patch: int) -> tuple[int, list[int], int]:
        """Slots of the text, of every reference and of the noisy latent."""
        return len(self.features), [tokens_of(r, patch) for r in self.references], tokens_of(self.latent, patch)


def tokens_of(latent: np.ndarray, patch: int) -> int:
    """Latent tokens of [C, h, w]."""
    return (latent.shape[1] // patch) * (latent.shape[2] // patch)


def patches(latent: np.ndarray, patch: int) -> np.ndarray:
    """[C, h, w] -> [tokens, p*p*C], channel fastest."""
    c, h, w = latent.shape
    x = latent.reshape(c, h // patch, patch, w // patch, patch).transpose(1, 3, 2, 4, 0)
    return x.reshape(-1, patch * patch * c)


def unpatched(tokens: np.ndarray, like: np.ndarray, patch: int) -> np.ndarray:
    """The inverse, to the shape [C, h, w] of `like`."""
    c, h, w = like.shape
    return tokens.reshape(h // patch, w // patch, patch, patch, c).transpose(4, 0, 2, 1, 3).reshape(like.shape)


def samples_of(arrays: Arrays, prefix: str = "in.") -> list[Sample]:
    """The samples of a recorded batch with text features."""
    hidden, mask = arrays[f"{prefix}text_hidden_states"], arrays[f"{prefix}text_attention_mask"]
    found = []
    for i, time in enumerate(arrays[f"{prefix}timestep"]):
        references = tuple(arrays[f"{prefix}ref_{i}_{j}"] for j in range(int(arrays[f"{prefix}num_refs_{i}"])))
        found.append(Sample(arrays[f"{prefix}latent_{i}"], references, hidden[i][mask[i] > 0], time))
    return found


@dataclasses.dataclass(frozen=True)
class Pack:
    """One row of lanes.

    Attributes:
      features, references, noisy, times: arguments of `Dit`, with the row's axis.
      lanes: the facts of "text", "ref" and "gen".
    """

    features: np.ndarray
    references: np.ndarray
    noisy: np.ndarray
    times: np.ndarray
    lanes: dict[str, dict[str, np.ndarray]]

    @property
    def arguments(self) -> tuple[Any, ...]:
        """Arguments of `Dit.__call__`."""
        return self.features, self.references, self.noisy, self.times, self.lanes


def pack(samples: Sequence[Sample], patch: int, sizes: tuple[int, int, int, int] | None = None) -> Pack:
    """Samples one after the other in one row; `sizes` are the slots of text, ref, gen and of times, padded up to."""
    lanes: dict[str, list[tuple[Any, ...]]] = {"text": [], "ref": [], "gen": []}
    values: dict[str, list[np.ndarray]] = {"text": [], "ref": [], "gen": []}
    for number, sample in enumerate(samples):
        shapes = [(x.shape[1] // patch, x.shape[2] // patch) for x in (*sample.references, sample.latent)]
        words, pictures, target = rotary_positions(len(sample.features), shapes[:-1], shapes[-1])
        lanes["text"] += [(number, 0, 0, p) for p in words]
        values["text"].append(sample.features)
        for j, (positions, latent) in enumerate(zip(pictures, sample.references)):
            lanes["ref"] += [(number, 1 + j, j, p) for p in positions]
            values["ref"].append(patches(latent, patch))
        lanes["gen"] += [(number, 1 + len(pictures), 0, p) for p in target]
        values["gen"].append(patches(sample.latent, patch))
    widths = {"text": samples[0].features.shape[1], "gen": values["gen"][0].shape[1]}
    widths["ref"] = widths["gen"]
    wanted = dict(zip(("text", "ref", "gen", "time"), sizes or (0, 0, 0, 0)))
    facts, filled = {}, {}
    for name, slots in lanes.items():
        size = max(wanted[name], len(slots))
        x = np.zeros((1, size, widths[name]), np.float32)
        x[0, : len(slots)] = np.concatenate([*values[name], np.zeros((0, widths[name]), np.float32)])
        filled[name], facts[name] = x, _facts(slots, size)
    times = np.zeros((1, max(wanted["time"], len(samples))), np.float32)
    times[0, : len(samples)] = [sample.time for sample in samples]
    return Pack(filled["text"], filled["ref"], filled["gen"], times, facts)


def _facts(slots: Sequence[tuple[Any, ...]], size: int) -> dict[str, np.ndarray]:
    facts = {name: np.zeros((1, size), np.int32) for name in ("sample", "split", "flow", "index")}
    facts["position"] = np.zeros((1, size, 3), np.int32)
    for i, (number, split, index, position) in enumerate(slots):
        facts["sample"][0, i], facts["split"][0, i], facts["flow"][0, i] = number + 1, split, number
        facts["index"][0, i], facts["position"][0, i] = index, position
    return facts


def cut(tokens: np.ndarray, samples: Sequence[Sample], patch: int) -> list[np.ndarray]:
    """Tokens [G, p*p*C] of lane "gen" as latents [C, h, w] of every sample."""
    ends = np.cumsum([tokens_of(sample.latent, patch) for sample in samples])
    return [unpatched(x, s.latent, patch) for x, s in zip(np.split(tokens[: ends[-1]], ends[:-1]), samples)]


def prefix_rows(lengths: Sequence[int], width: int) -> np.ndarray:
    """bool [len(lengths), width]: the first so many of every row."""
    return np.arange(width)[None] < np.asarray(lengths)[:, None]
