"""A child process for tests: runs `evaluate`, and kills itself (a real SIGKILL) after so many answers or files.

python -m tests.support.run_benchmark AFTER ARGUMENTS ...        AFTER 0: never
"""

import os
import signal
import sys


def main(after: int, arguments: list[str]) -> int:
    from sgt_jax.parallel.distributed import prepare_platform

    prepare_platform("cpu", 1)
    from sgt_jax.commands import evaluate
    from sgt_jax.evaluation.benchmarks import painting
    from sgt_jax.evaluation.benchmarks.records import Records

    left = [after]

    def counted(function):
        def call(*given):
            function(*given)
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)

        return call

    Records.append, painting._write = counted(Records.append), counted(painting._write)
    return evaluate.main(arguments)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2:]))
