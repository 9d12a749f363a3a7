"""Several processes as one run: start together, share small facts, stop together, and end when one of them is lost.

On Cloud TPU slices, GKE and Slurm, JAX finds the other processes itself; elsewhere they are told by flags or by the
environment variables JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID.
"""

import atexit
import json
import os
import socket
import sys
import threading
import time
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.experimental import multihost_utils

from sgt_jax.errors import ConfigError, StartError
from sgt_jax.parallel import host_memory
from sgt_jax.parallel.stopping import StopRequest as StopRequest


class Settings(NamedTuple):
    """How processes find and watch each other.

    Attributes:
      coordinator: HOST:PORT where process 0 listens; "" leaves finding it to JAX.
      processes, process: how many there are, which one this is; -1 leaves it to JAX.
      timeout: seconds to wait for all processes at the start.
      heartbeat: seconds without a sign of life after which a process counts as lost, and the others end.
    """

    coordinator: str = ""
    processes: int = -1
    process: int = -1
    timeout: int = 300
    heartbeat: int = 100

    @classmethod
    def from_environment(cls, **given: Any) -> "Settings":
        """The settings that are `given`; the place of what is absent (None) is taken by the environment.

        Raises:
          ConfigError: a variable holds no number.
        """
        names = {"processes": "JAX_NUM_PROCESSES", "process": "JAX_PROCESS_ID"}
        found: dict[str, Any] = {"coordinator": os.environ.get("JAX_COORDINATOR_ADDRESS", "")}
        for field, name in names.items():
            text = os.environ.get(name, "-1")
            try:
                found[field] = int(text)
            except ValueError:
                raise ConfigError(f"environment variable {name}='{text}' must be a number") from None
        return cls(**(found | {k: v for k, v in given.items() if v is not None}))


def start(settings: Settings, automatic: bool = True) -> None:
    """Connects this process with the others, before anything else of JAX is used; alone it stays alone.

    The process ends, with a message, if the others do not come in time.

    Args:
      automatic: look for a cluster where no coordinator is given.

    Raises:
      ConfigError: incomplete settings.
      TimeoutError: nobody listens where process 0 should.
    """
    if settings.coordinator:
        _check(settings)
        if settings.process > 0:
            _wait_for_coordinator(settings)
        where: tuple[Any, ...] = (settings.coordinator, settings.processes, settings.process)
        # What waits for other processes does not wait in the thread that called, whatever `prepare_platform` chose.
        jax.config.update("jax_cpu_enable_async_dispatch", True)
    else:
        if settings.processes > 1 or settings.process > 0:
            raise ConfigError("--processes and --process need --coordinator=HOST:PORT, where process 0 listens")
        if not automatic:
            return
        where = ()
    # JAX would end the process with a stack trace of its own; this says first what happened.
    watch = threading.Timer(settings.timeout, _give_up, [settings])
    watch.daemon = True
    watch.start()
    try:
        jax.distributed.initialize(
            *where,
            initialization_timeout=settings.timeout + 60,
            heartbeat_timeout_seconds=settings.heartbeat,
            # A process that ends waits this long for the others, which may still write the report.
            shutdown_timeout_seconds=max(settings.timeout, 300),
        )
    except ValueError:
        if where:
            raise
        return  # no cluster here
    finally:
        watch.cancel()
    _leave_at_once_after_errors()


def _give_up(settings: Settings) -> None:
    me = f"process {settings.process} of {settings.processes}" if settings.coordinator else "this process"
    print(
        f"error: {me}: not all processes had started {settings.timeout} s (--start_timeout) after this one; "
        "look at the logs of the others, and whether they reach this coordinator",
        file=sys.stderr, flush=True,
    )  # fmt: skip
    os._exit(1)


def _check(settings: Settings) -> None:
    host, _, port = settings.coordinator.rpartition(":")
    if not host or not port.isdigit():
        raise ConfigError(f"--coordinator='{settings.coordinator}' must be HOST:PORT")
    if settings.processes < 1 or settings.process < 0:
        raise ConfigError("--coordinator needs --processes=N and --process=0..N-1, too")
    if settings.process >= settings.processes:
        raise ConfigError(f"--process={settings.process} must be below --processes={settings.processes}")


def _wait_for_coordinator(settings: Settings) -> None:
    """Tests the coordinator's port first: JAX kills a process that cannot connect, without a Python exception."""
    host, _, port = settings.coordinator.rpartition(":")
    deadline = time.monotonic() + settings.timeout
    while True:
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
            return
        except OSError as error:
            if time.monotonic() >= deadline:
                raise StartError(
                    f"process {settings.process} of {settings.processes}: no coordinator at {settings.coordinator} after "
                    f"{settings.timeout} s (--start_timeout): {error}; is process 0 running, and its port open?"
                ) from None
            time.sleep(0.2)


# -- Leaving -----------------------------------------------------------------------------------------------------------

_leaving = {"orderly": False}


def finish() -> None:
    """Says that this process ends as planned: then it waits for the others at its exit."""
    _leaving["orderly"] = True


def _leave_at_once_after_errors() -> None:
    """A process that fails must not wait at its exit for others that wait for it: they would all hang."""

    def leave() -> None:
        if not _leaving["orderly"] and jax.process_count() > 1:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(1)

    atexit.register(leave)  # runs before JAX's own handler, which waits


def explain(error: Exception) -> str:
    """What to tell a person about an error of the runtime; "" if no other process has to do with it."""
    text = " ".join(str(error).split())
    if jax.process_count() == 1 or "RESOURCE_EXHAUSTED" in text:
        return ""
    return (
        f"process {jax.process_index()} of {jax.process_count()}: a computation across processes failed, most likely "
        f"because another process ended; its own log says why, and the same command resumes. The runtime says: {text[:300]}"
    )


# -- Facts -------------------------------------------------------------------------------------------------------------


def meet(place: str, timeout: int = 3600) -> None:
    """Waits until all processes have come to a place in the program; each place once.

    Unlike a collective it may take long: some processes may still be compiling.
    """
    import orbax.checkpoint as ocp  # here: commands of one process need it not, and it takes half a second

    ocp.multihost.sync_global_processes(f"sgt_jax:{place}", timeout=timeout)


def gather(facts: dict[str, Any]) -> dict[str, Any]:
    """The facts of all processes in every process, as JSON goes; all must call it together.

    Processes that say the same key must say the same of it.
    """
    if jax.process_count() == 1:
        return facts
    text = np.frombuffer(json.dumps(facts).encode(), np.uint8)
    sizes = multihost_utils.process_allgather(np.asarray([len(text)]))
    # Rounded up, so that few lengths are ever compiled.
    padded = np.zeros(-(-int(sizes.max()) // 4096) * 4096, np.uint8)
    padded[: len(text)] = text
    everyone = multihost_utils.process_allgather(padded)
    joined: dict[str, Any] = {}
    for size, data in zip(sizes.reshape(-1), everyone):
        joined.update(json.loads(bytes(data[: int(size)]).decode()))
    return joined


def fetch(tree: Any) -> Any:
    """Arrays as NumPy, wherever their parts lie; where other processes hold parts, all must call it together."""

    def one(x: jax.Array) -> np.ndarray:
        if x.is_fully_addressable or x.is_fully_replicated:
            return np.asarray(x)
        return multihost_utils.process_allgather(x, tiled=True)

    return jax.tree.map(one, tree)


def prepare_platform(platform: str, cpu_devices: int) -> None:
    """Chooses the platform before JAX starts one; "" leaves the choice to JAX."""
    if platform:
        # An installed TPU or GPU library is otherwise probed even for a CPU run.
        jax.config.update("jax_platforms", platform)
    if platform == "cpu" and cpu_devices:
        # A virtual device that waits for the others keeps a thread, even where there are fewer cores.
        os.environ.setdefault("PJRT_NPROC", str(max(4 * cpu_devices, os.cpu_count() or 1)))
        jax.config.update("jax_num_cpu_devices", cpu_devices)
    if platform == "cpu" and cpu_devices <= 1 and host_memory.keep_freed():
        # In the thread that calls, where memory is kept; several devices compute in threads of their own in any case.
        jax.config.update("jax_cpu_enable_async_dispatch", False)
