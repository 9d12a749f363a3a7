"""python -m sgt_jax.study --config=configs/study/NAME.py --workdir=DIR: runs a study and writes its report; see run.py."""

import os
import sys

from absl import app, flags, logging
from etils import epath

from sgt_jax.errors import one_line
from sgt_jax.parallel.compiling import compilation_cache
from sgt_jax.parallel.distributed import prepare_platform
from sgt_jax.study import page, run
from sgt_jax.training import config_file


def main(argv: list[str]) -> None:
    """Runs what the flags say, and prints where the report is, or the results of a study that was stopped."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments {argv[1:]}; overrides look like --config.base.total_steps=100")
    options = flags.FLAGS
    study = options.config
    logging.set_verbosity(logging.WARNING)
    prepare_platform(study.base.platform, study.base.cpu_devices)
    # Arms differ in their data more often than in their shapes: what one has compiled, the next one finds.
    compilation_cache(study.base.compilation_cache)
    results = epath.Path(options.results or os.path.join(options.workdir, "results"))
    try:
        ended = run.run_study(
            study, options.workdir, results, options.only, options.reuse, options.keep, options.steal_lock
        )
        print(page.build(results) if ended else results)
    except Exception as error:
        words = one_line(error)
        if os.environ.get("SGT_TRACEBACK") or not words:
            raise
        sys.exit(f"error: {words}")


if __name__ == "__main__":
    flags.DEFINE_string("config", None, "The study: a file of configs/study/; --config.NAME=VALUE overrides.")
    flags.DEFINE_string("workdir", None, "Where arms train; the same one resumes.")
    flags.DEFINE_string("results", None, "Folder of the results; default WORKDIR/results.")
    flags.DEFINE_list("only", [], "Names of arms to run now (default: all); the others wait for another call.")
    flags.DEFINE_list("reuse", [], "Results folders of other studies: runs of the same settings are taken from there.")
    flags.DEFINE_bool("keep", False, "Keep every run's last checkpoint, for sample, probe, attention and align.")
    flags.DEFINE_bool("steal_lock", False, "Take an arm's work directory from a run that holds its lock (--steal-lock).")
    flags.mark_flags_as_required(["config", "workdir"])
    app.run(main, flags_parser=config_file.parse_flags)
