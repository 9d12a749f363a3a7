"""The suite's machine: one CPU platform with several virtual devices, quick compilation, a cache of it, few workers.

docs/development.md explains what makes a test cheap.
"""

import gc
import os
from importlib.metadata import version
from pathlib import Path

import pytest

# Most of a tiny model's time is compilation. These make it eight times quicker and the programs half as fast. A platform
# or flags that are set already win: XLA_FLAGS= (empty) tests the programs that users run.
QUICK = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
if version("jaxlib").startswith("0.10."):  # XLA ends the process at a flag that it does not know
    QUICK += " --xla_cpu_use_fusion_emitters=false"
CACHE = Path(__file__).parents[1] / ".pytest_cache" / "d" / "compiled"
MOST_WORKERS = 4
# The files that take longest go first, so that no worker begins one while the others have nothing left to do.
LONGEST_FIRST = (
    "training/test_loop.py",
    "models/bagel/test_bagel_model.py",
    "parity/bagel/test_golden.py",
    "commands/test_convert.py",
    "commands/test_sample.py",
    "study/test_results.py",
    "parallel/test_partitioning.py",
    "planning/test_accounting.py",
    # The slow tier's; of the default one they have next to nothing.
    "parallel/test_distributed.py",
    "test_blocks.py",
    "training/test_adapter_run.py",
    "models/bagel/test_memory.py",
    "commands/test_bench.py",
    "training/test_killed.py",
    "study/test_run.py",
    "training/test_ends.py",
    "training/test_whole_road.py",
    "parity/omnigen2/test_golden.py",
)

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("XLA_FLAGS", QUICK)
# Workers, child processes and the next run share what was compiled; the flags above are part of a program's key.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(CACHE))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.05")
# A virtual device that waits for the others keeps a thread: with one thread a core they would wait for ever.
os.environ.setdefault("PJRT_NPROC", "32")

import jax  # noqa: E402

from sgt_jax.parallel.compiling import compilation_cache  # noqa: E402

compilation_cache()  # also where a plugin imported JAX before the lines above
jax.config.update("jax_num_cpu_devices", 4)
gc.set_threshold(100_000, 20, 100)  # tracing makes many small objects that live on; looking for garbage took a twentieth
pytest.register_assert_rewrite("tests.support")


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """`pytest` alone, the default tier, runs on several workers where pytest-xdist is installed; `-n 0` undoes it."""
    option = config.option
    if "PYTEST_XDIST_WORKER" in os.environ or not hasattr(option, "numprocesses"):
        return  # a worker must not start workers of its own
    default_tier = option.markexpr in config.getini("addopts") and config.args_source is config.ArgsSource.TESTPATHS
    if default_tier and option.numprocesses is None and not option.usepdb and not option.collectonly:
        option.numprocesses = min(MOST_WORKERS, len(os.sched_getaffinity(0)))
        if option.dist == "no":
            option.dist, option.loadscopereorder = "loadfile", False  # in the order below


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts the files of LONGEST_FIRST first; all other files, and the tests in each, keep their order."""
    rank = {str(Path(__file__).parent / name): number for number, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: rank.get(str(item.path), len(rank)))
