"""What is read from a compiler's dump: only whole files, and every allocation where it counts."""

import threading

import pytest

from sgt_jax.planning import compiling, dumped

BUFFERS = """BufferAssignment:
allocation 0: size 4096, maybe-live-out:
 value: <1 fusion @0> (size=4096,offset=0): f32[32,32]{1,0:T(8,128)}
allocation 1: size 65536, parameter 0, shape |f32[128,128]| at ShapeIndex {}, maybe-live-out:
allocation 2: size 512, parameter 1, shape |f32[1]| at ShapeIndex {}:
allocation 3: size 1024, constant:
allocation 4: size 256, thread-local:
allocation 5: size 100, color 2, preallocated-temp:
allocation 6: size 8192, color 5, preallocated-temp:
allocation 7: size 1000000, preallocated-temp:
"""
PROGRAM = """HloModule jit_step, is_scheduled=true

ENTRY %main.1 (p: f32[4]) -> f32[16] {
  %p = f32[4]{0} parameter(0)
  ROOT %g = f32[16]{0} all-gather(%p), replica_groups={{0,1,2,3}}, dimensions={0}
}
"""


def write(folder, program=PROGRAM):
    (folder / "module_0001.jit_step.after_optimizations-buffer-assignment.txt").write_text(BUFFERS)
    (folder / "module_0001.jit_step.after_optimizations_after_buffer_assignment.txt").write_text(program)


def test_allocations_count_once_and_where_they_lie():
    found = dumped.memory(BUFFERS)
    # What is donated is an argument that is given back in place, not an output on top.
    assert found == dict(arguments=66048, outputs=4096, temporaries=1000000, program=1024, host=8192)
    with pytest.raises(ValueError, match="not look as expected"):
        dumped.memory("BufferAssignment:\n")


def test_half_a_file_is_not_read(tmp_path):
    assert dumped.ready(str(tmp_path)) is None
    write(tmp_path, PROGRAM[:-40])
    assert dumped.ready(str(tmp_path)) is None
    write(tmp_path)
    assert dumped.ready(str(tmp_path)) == (PROGRAM, BUFFERS)


def test_a_plan_does_not_wait_for_machine_code(tmp_path):
    enough = threading.Event()

    class Lowered:
        def compile(self, compiler_options):
            from pathlib import Path

            write(Path(compiler_options["xla_dump_to"]))
            assert enough.wait(60)

    try:
        found = compiling._settled(Lowered(), {"data": 1, "fsdp": 4, "tensor": 1, "context": 1})
    finally:
        enough.set()
    assert found["temporaries"] == 1000000
    assert found["collectives"] == [dict(kind="all-gather", axes="fsdp", count=1, bytes=48.0)]


def test_what_the_compiler_says_reaches_the_caller():
    class Lowered:
        def compile(self, compiler_options):
            raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        compiling._settled(Lowered(), {})
