"""Compiles a config's training step, or a program of its sampler, for a TPU slice that need not exist, in its own process.

libtpu compiles for a named topology on any Linux machine, but it holds a lock file, reads its settings from the environment,
and is slow to start. So `plan` starts `python -m sgt_jax.planning.compiling` with an environment of its own and reads one
line of JSON from it.
"""

import contextlib
import fcntl
import importlib.util
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent import futures
from typing import Any

from sgt_jax.errors import PlanError, UserError
from sgt_jax.parallel import hardware

GIB = hardware.GIB
_MARK = "SGT_PLAN_RESULT "
# What the cloud calls a chip when it counts in accelerator types; libtpu wants one.
_TYPES = {"v5e": "v5litepod-{chips}", "v6e": "v6e-{chips}", "v5p": "v5p-{cores}"}
# One chip is taken from a whole host: some versions of libtpu know no smaller slice.
_HOSTS = {"v5e": "v5e:2x2", "v6e": "v6e:2x2", "v5p": "v5p:2x2x1"}


def require_compiler() -> None:
    """Looks for libtpu, before minutes go into what only it can finish.

    Raises:
      PlanError: it is absent.
    """
    if importlib.util.find_spec("libtpu") is None:
        raise PlanError("libtpu, which compiles for TPUs, is not installed: pip install 'sgt_jax[plan]', or use --estimate")


def compile_elsewhere(
    config_file: str, overrides: list[str], topology: str, thorough: bool = False, timeout: float = 3600,
    painted: dict[str, Any] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Compiles in a child process: the training step, or of the sampler what `painted` says.

    `thorough` goes on to machine code, which shows that every kernel compiles, too, and how large the program is; otherwise
    the compiler is stopped when memory, schedule and collectives are settled, which takes a fraction of the time.

    Args:
      painted: {"program": one of `request.PROGRAMS`, "request": the fields of a `request.Request`}.

    Returns:
      {"seconds", "fits", "over": bytes beyond the chip's memory, "memory": {...}, "collectives": [...]}; see `measure`.

    Raises:
      PlanError: libtpu is absent, the topology does not exist, or the step cannot be built.
    """
    chip, sides = hardware.parse_topology(topology)
    if painted is not None:
        topology = _HOSTS[chip.name]
        chip, sides = hardware.parse_topology(topology)
    chips = hardware.chips_in(sides)
    environment = dict(
        os.environ,
        JAX_PLATFORMS="cpu",
        TPU_SKIP_MDS_QUERY="1",
        TPU_WORKER_HOSTNAMES="localhost",
        TPU_ACCELERATOR_TYPE=_TYPES[chip.name].format(chips=chips, cores=2 * chips),
        TF_CPP_MIN_LOG_LEVEL="3",
    )
    command = [
        sys.executable,
        "-m",
        "sgt_jax.planning.compiling",
        config_file,
        topology,
        str(int(thorough)),
        json.dumps(painted),
        *overrides,
    ]
    with _one_at_a_time():
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=timeout, check=False)
    for line in done.stdout.splitlines():
        if line.startswith(_MARK):
            result = json.loads(line.removeprefix(_MARK))
            if "error" in result:
                raise PlanError(result["error"])
            return result
    raise PlanError(f"the compiler stopped with status {done.returncode}: {done.stderr.strip()[-800:]}")


@contextlib.contextmanager
def _one_at_a_time() -> Iterator[None]:
    """Waits for other plans of this machine: two at once collide on libtpu's lock file."""
    with open(os.path.join(tempfile.gettempdir(), "sgt_jax_plan.lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def measure(compiled: Any, mesh_shape: dict[str, int]) -> dict[str, Any]:
    """What a compiled step takes, per chip."""
    from sgt_jax.planning import collectives

    memory = compiled.memory_analysis()
    return {
        "arguments": memory.argument_size_in_bytes,
        "outputs": memory.output_size_in_bytes - memory.alias_size_in_bytes,
        "temporaries": memory.temp_size_in_bytes,
        "program": memory.generated_code_size_in_bytes,
        "host": memory.host_temp_size_in_bytes,
        "collectives": [vars(c) for c in collectives.read(compiled.as_text(), mesh_shape)],
    }


def out_of_memory(message: str) -> float | None:
    """Bytes that a program is beyond the chip's memory, from the compiler's message; None if that was not the trouble."""
    units = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
    found = re.search(r"[Ee]xceeded hbm capacity by ([\d.]+)([KMGT]?)", message)
    if found:
        return float(found[1]) * units[found[2]]
    # Said early, when the largest arrays alone are too much.
    found = re.search(r"temporaries \(([\d.]+)([KMGT]?)\) exceeds available HBM \(([\d.]+)([KMGT]?)\)", message)
    if found:
        return float(found[1]) * units[found[2]] - float(found[3]) * units[found[4]]
    return 0.0 if "RESOURCE_EXHAUSTED" in message else None


def main(arguments: list[str]) -> int:
    """The child: config file, topology, "1" if thorough, what is painted as JSON, overrides."""
    import jax
    from jax.experimental import topologies

    from sgt_jax.training.config_file import load

    config_file, topology, thorough, painted, *overrides = arguments
    began = time.time()

    def say(**result: Any) -> int:
        print(_MARK + json.dumps(dict(result, seconds=time.time() - began)), flush=True)
        return 0

    try:
        devices = topologies.get_topology_desc(platform="tpu", topology_name=topology).devices
    except (RuntimeError, jax.errors.JaxRuntimeError) as error:
        return say(error=f"no topology {topology} here ({str(error).splitlines()[0]}); pip install 'sgt_jax[plan]'")
    try:
        lowered, shape = _lowered(load(config_file, overrides), json.loads(painted), devices)
    except UserError as error:
        return say(error=str(error))
    try:
        facts = measure(lowered.compile(), shape) if thorough == "1" else _settled(lowered, shape)
    except jax.errors.JaxRuntimeError as error:
        over = out_of_memory(str(error))
        if over is None:
            return say(error=f"the program does not compile for {topology}: {str(error)[:800]}")
        return say(fits=False, over=over, largest=_largest(str(error)))
    say(fits=True, over=0.0, thorough=thorough == "1", **facts)
    os._exit(0)  # does not wait for a compiler that is still at work


def _lowered(config: Any, painted: dict[str, Any] | None, devices: Any) -> tuple[Any, dict[str, int]]:
    """What is to be compiled, and the sizes of its mesh."""
    from sgt_jax.parallel import partitioning
    from sgt_jax.planning import request, sampling
    from sgt_jax.planning.step import plan_step

    if painted is None:
        step = plan_step(config, partitioning.make_mesh(config.mesh, devices))
        return step.lower(), dict(step.mesh.shape)
    asked = request.Request(**painted["request"] | {"size": tuple(painted["request"]["size"])})
    return sampling.plan_sampling(config, asked).lower(painted["program"], devices[0]), {}


def _settled(lowered: Any, mesh_shape: dict[str, int]) -> dict[str, Any]:
    """What `measure` says, from the compiler's dump, while it goes on compiling in another thread."""
    from sgt_jax.planning import collectives, dumped

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        options = dumped.OPTIONS | {"xla_dump_to": folder}
        compiling = futures.ThreadPoolExecutor(1).submit(lowered.compile, compiler_options=options)
        while (found := dumped.ready(folder)) is None:
            if compiling.done():
                return measure(compiling.result(), mesh_shape)
            time.sleep(0.5)
    program, buffers = found
    return dumped.memory(buffers) | {"collectives": [vars(c) for c in collectives.read(program, mesh_shape)]}


def _largest(message: str) -> list[str]:
    """The largest allocations that the compiler names."""
    pattern = r"Size: ([\d.]+[KMG]?)\s.*?Shape: (\S+)"
    return [f"{size} {shape}" for size, shape in re.findall(pattern, message, re.S)][:5]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
