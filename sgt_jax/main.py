"""Trains, evaluates and reports one experiment: python -m sgt_jax.main --config=configs/nano.py --workdir=DIR"""

import contextlib
import os
import sys
from typing import Any

from absl import app, flags, logging

from sgt_jax.parallel.host_memory import begin_with_huge_pages
from sgt_jax.training import config_file

CONFIG = flags.DEFINE_string(
    "config", None, "The experiment: FILE.py or FILE.py:VARIANT; --config.NAME=VALUE overrides."
)
WORKDIR = flags.DEFINE_string("workdir", None, "Checkpoints, logs and the report go here; the same one resumes.")
# Several processes: docs/launch.md.
PROCESSES = dict(
    coordinator=flags.DEFINE_string("coordinator", None, "HOST:PORT of process 0, where JAX cannot find it itself."),
    processes=flags.DEFINE_integer("processes", None, "How many processes there are."),
    process=flags.DEFINE_integer("process", None, "Which of them this is, from 0."),
    timeout=flags.DEFINE_integer("start_timeout", 300, "Seconds to wait for all processes at the start."),
    heartbeat=flags.DEFINE_integer("heartbeat", 100, "Seconds after which a silent process is given up."),
)
STOPPED = flags.DEFINE_integer("stopped_status", 0, "Exit status after SIGTERM and save, for restarts that want one.")
STEAL = flags.DEFINE_bool("steal_lock", False, "Take the work directory from a run that holds its lock (--steal-lock).")
flags.mark_flags_as_required(["config", "workdir"])


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        sys.exit(f"error: unexpected arguments {argv[1:]}; overrides look like --config.seed=1")
    config = CONFIG.value
    # Orbax tells every step of every save; a run says itself what a person wants to know.
    logging.set_verbosity(logging.WARNING)
    try:
        arm = check_first(config)
        # JAX takes seconds to import: until then this line shows that something happens.
        if (PROCESSES["process"].value or 0) == 0:
            print(f"{config.name}: loading (work directory {WORKDIR.value})", flush=True)
        from sgt_jax.parallel.compiling import compilation_cache
        from sgt_jax.parallel.distributed import prepare_platform
        from sgt_jax.parallel.stopping import StopRequest

        StopRequest.status = STOPPED.value
        prepare_platform(config.platform, config.cpu_devices)
        compilation_cache(config.compilation_cache)
        processes = {name: flag.value for name, flag in PROCESSES.items()}
        sys.exit(run(config, WORKDIR.value, steal_lock=STEAL.value, first=arm, **processes))
    except KeyboardInterrupt:
        leave("error: interrupted before the run began", 130)
    except SystemExit as end:
        if isinstance(end.code, str):
            leave(end.code, 1)
        raise


def check_first(config: Any) -> Any:
    """What can be said of a config before JAX is imported; leaves with one line.

    Returns:
      The config of the arm that config.compare asks to train first, or None.
    """
    from sgt_jax.errors import UserError, one_line
    from sgt_jax.training import checks

    try:
        checks.before_anything(config)
        checks.check_places(config)
        arm = config_file.arm_to_compare(config, sys.argv[1:])
        if arm is not None:
            checks.before_anything(arm)
        return arm
    except UserError as error:
        if os.environ.get("SGT_TRACEBACK"):
            raise
        sys.exit(f"error: {one_line(error)}")


def run(config: Any, workdir: str, steal_lock: bool = False, first: Any = None, **processes: Any) -> int:
    """Trains in this process, one of those that `distributed.Settings` names; returns the exit status.

    `first` is the config of an arm that is trained before, in the folder of config.compare in the work directory.
    """
    import jax

    from sgt_jax.errors import one_line
    from sgt_jax.parallel import distributed
    from sgt_jax.training import loop

    try:
        distributed.start(distributed.Settings.from_environment(**processes), automatic=config.platform != "cpu")
        if first is not None:
            beside = os.path.join(workdir, config.compare)
            if not loop.run(first, beside, steal_lock).finished:
                return STOPPED.value
            config.compare = beside
        ended = loop.run(config, workdir, steal_lock)
    except Exception as error:
        words = one_line(error) or (distributed.explain(error) if isinstance(error, jax.errors.JaxRuntimeError) else "")
        if os.environ.get("SGT_TRACEBACK") or not words:
            raise
        sys.exit(f"error: {words}")
    distributed.finish()
    return 0 if ended.finished else STOPPED.value


def leave(words: str, status: int) -> None:
    """Ends the process with a line on stderr, the last thing that it prints: threads of libraries get no turn after it."""
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
    with contextlib.suppress(OSError, ValueError):
        print(words, file=sys.stderr, flush=True)
    os._exit(status)


if __name__ == "__main__":
    begin_with_huge_pages()
    app.run(main, flags_parser=config_file.parse_flags)
