"""All benchmarks by name, and the suites of the paper's tables."""

import importlib
from collections.abc import Sequence
from typing import Any

from sgt_jax.errors import ConfigError, hint

# Name -> module below this package with an object BENCHMARK; imported when it is asked for.
UNDERSTANDING = {
    "cv_bench": "understanding.cv_bench",
    "mmvp": "understanding.mmvp",
    "vsr": "understanding.vsr",
    "pope": "understanding.pope",
    "hallusion_bench": "understanding.hallusion",
    "mmstar": "understanding.mmstar",
    "realworldqa": "understanding.realworldqa",
    "mathvista": "understanding.mathvista",
    "sibench": "understanding.sibench",
    "mmbench": "understanding.mmbench",
    "mme": "understanding.mme",
}
GENERATION = {
    "geneval": "generation.geneval",
    "geneval_long": "generation.geneval_long",
    "gedit": "generation.gedit",
    "dpg": "generation.dpg",
    "wise": "generation.wise",
    "imgedit": "generation.imgedit",
}
SUITES = {
    "sgt-main": ("mmvp", "vsr", "hallusion_bench", "mmstar", "realworldqa", "mathvista", "geneval_long", "gedit"),
    "sgt-ablation": ("cv_bench", "mmvp", "vsr", "sibench", "pope", "hallusion_bench", "geneval", "gedit"),
    "all": (*UNDERSTANDING, *GENERATION),
}


def by_name(name: str) -> Any:
    """The benchmark of a name: an `Understanding` or a `Generation`.

    Raises:
      ConfigError: there is none.
    """
    module = {**UNDERSTANDING, **GENERATION}.get(name)
    if module is None:
        raise ConfigError(
            f"no benchmark '{name}'; {hint(name, [*SUITES['all'], *SUITES])}"
        )
    return importlib.import_module(f"sgt_jax.evaluation.benchmarks.{module}").BENCHMARK


def names(words: Sequence[str]) -> list[str]:
    """Names of benchmarks and suites, spelt out, each once.

    Raises:
      ConfigError: a word is neither.
    """
    found: dict[str, None] = {}
    for word in words:
        for name in SUITES.get(word, (word,)):
            if name not in UNDERSTANDING and name not in GENERATION:
                by_name(name)
            found[name] = None
    return list(found)
