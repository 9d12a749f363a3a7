"""The sections of a folder of scores recorded from official benchmark tools: one per benchmark that it holds."""

import functools
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from sgt_jax.parity.benchmarks import generation, routes, scripts, toolkit
from sgt_jax.parity.benchmarks.folder import Folder, expected_of, same
from sgt_jax.parity.checks import Check

Checker = Callable[[Path], Iterator[Check]]

# What `benchmark` in expected.json says -> the checks of it.
CHECKERS: dict[str, Checker] = {
    "BAGEL MME": scripts.bagel_mme,
    "BAGEL MMVP": scripts.bagel_mmvp,
    "BAGEL POPE": scripts.bagel_pope,
    "CV-Bench-2D": toolkit.multiple_choice,
    "CV-Bench-3D": toolkit.multiple_choice,
    "DPG-Bench": generation.dpg_bench,
    "GEdit-Bench": generation.gedit,
    "GenEval": generation.geneval,
    "HallusionBench": toolkit.answers_yes_no,
    "ImgEdit (basic, single turn)": generation.img_edit,
    "MMBench_DEV_EN": toolkit.circular,
    "MME": toolkit.answers_yes_no,
    "MMStar": toolkit.multiple_choice,
    "MMVP": toolkit.multiple_choice,
    "MathVista": scripts.mathvista_official,
    "MathVista_MINI": toolkit.math_vista,
    "POPE": toolkit.answers_yes_no,
    "RealWorldQA": toolkit.multiple_choice,
    "SIBench": scripts.si_bench,
    "VSR-zeroshot": toolkit.answers_yes_no,
    "WISE": generation.wise,
}


def recognises(path: str | os.PathLike) -> bool:
    """Whether a folder holds recorded scores."""
    return bool(Folder(path).benchmarks())


def open_folder(path: str | os.PathLike) -> Folder:
    """The folder."""
    return Folder(path)


def of_folder(folder: Folder) -> dict[str, tuple[tuple[str, ...], Callable[[Folder], Iterator[Check]]]]:
    """section -> (the files that it needs, its function), of the benchmarks that the folder holds."""
    found = folder.benchmarks()
    return {name: ((), functools.partial(_check, path=path)) for name, path in found.items()}


def _check(folder: Folder, path: Path) -> Iterator[Check]:
    if not (path / "expected.json").exists():
        return routes.work_folder(path)
    expected = expected_of(path)
    kind = expected.get("benchmark", "")
    if not kind and "multiple_choice" in expected:
        return toolkit.extraction(path)
    if kind not in CHECKERS:
        return iter([same(path.name, "expected.json", f"a rule for benchmark '{kind}'", "one that we know")])
    return CHECKERS[kind](path)
