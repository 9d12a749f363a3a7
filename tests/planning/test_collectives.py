"""Collectives read from the text of compiled programs: hand-written lines, and a real program on virtual devices."""

import jax
import jax.numpy as jnp
import pytest

from sgt_jax.parallel import partitioning
from sgt_jax.planning import collectives

TEXT = """
HloModule step, is_scheduled=true

%add (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %sum = f32[] add(%a, %b)
}

%body (p: (s32[], bf16[8,16])) -> (s32[], bf16[8,16]) {
  %p = (s32[], bf16[8,16]) parameter(0)
  %x = bf16[2,16]{1,0:T(8,128)} get-tuple-element(%p), index=1
  %gather = bf16[8,16]{1,0:T(8,128)} all-gather(%x), channel_id=1, replica_groups=[2,4]<=[8], dimensions={0}
  ROOT %t = (s32[], bf16[8,16]) tuple(%i, %gather)
}

%condition (p: (s32[], bf16[8,16])) -> pred[] {
  ROOT %less = pred[] compare(%i, %n), direction=LT
}

ENTRY %main (p: f32[32]) -> f32[32] {
  %w = (s32[], bf16[8,16]) while(%init), condition=%condition, body=%body, backend_config={"known_trip_count":{"n":"28"}}
  %start = (f32[4]{0}, f32[8]{0}) all-gather-start(%q), replica_groups=[4,2]<=[2,4]T(1,0), dimensions={0}
  %done = f32[8]{0} all-gather-done(%start)
  ROOT %r = f32[32]{0} all-reduce(%p), replica_groups={{0,1,2,3,4,5,6,7}}, to_apply=%add
}
"""


def test_loops_axes_and_bytes():
    found = {(c.kind, c.axes): c for c in collectives.read(TEXT, {"data": 2, "fsdp": 4, "tensor": 1})}
    assert set(found) == {("all-gather", "fsdp"), ("all-gather", "data"), ("all-reduce", "data+fsdp")}
    inner = found["all-gather", "fsdp"]
    assert inner.count == 28 and inner.bytes == 28 * 8 * 16 * 2 * 3 / 4
    assert found["all-gather", "data"].bytes == 8 * 4 / 2
    assert found["all-reduce", "data+fsdp"].bytes == 2 * 32 * 4 * 7 / 8


TPU = """
%body.1 (p: (s32[], bf16[8,16])) -> (s32[], bf16[8,16]) {
  %g = bf16[1,64]{1,0:T(8,128)(2,1)S(1)} all-gather(%x), replica_groups=mesh['axis_0'=2,'axis_1'=4] {'axis_1'}, dimensions={1}
  %f = bf16[16]{0:T(256)} fusion(%g), kind=kCustom, calls=%all-reduce-scatter.clone.1
}

%all-reduce-scatter.clone.1 (input.2: bf16[64]) -> bf16[16] {
  %all-reduce.4 = bf16[64]{0:T(8,128)(2,1)} all-reduce(%input.2), replica_groups={{0,1,2,3}}, to_apply=%add
}

%region_1.2_spmd (p: (s32[], bf16[8,16])) -> pred[] {
  %constant.1 = s32[]{:T(128)} constant(28)
  ROOT %lt.10 = pred[]{:T(512)} compare(%i, %constant.1), direction=LT
}

ENTRY %main.1 (p: f32[32]) -> f32[32] {
  %while.27 = (s32[]{:T(128)}, bf16[8,16]{1,0}) while(%init), condition=%region_1.2_spmd, body=%body.1, metadata={}
}
"""


def test_as_the_tpu_compiler_writes():
    found = {c.kind: c for c in collectives.read(TPU, {"data": 2, "fsdp": 4})}
    assert found["all-gather"] == collectives.Collective("all-gather", "fsdp", 28, 28 * 64 * 2 * 3 / 4)
    assert found["reduce-scatter"] == collectives.Collective("reduce-scatter", "fsdp", 28, 28 * 64 * 2 * 3 / 4)


def test_a_compiled_program():
    mesh = partitioning.make_mesh({"data": 2, "tensor": 2}, jax.devices()[:4])
    rows = jax.NamedSharding(mesh, jax.P("data"))
    columns = jax.NamedSharding(mesh, jax.P(None, "tensor"))

    def loss(w, x):
        return jnp.sum((x @ w) ** 2)

    w = jax.ShapeDtypeStruct((8, 16), jnp.float32, sharding=columns)
    x = jax.ShapeDtypeStruct((32, 8), jnp.float32, sharding=rows)
    text = jax.jit(jax.grad(loss), out_shardings=columns).lower(w, x).compile().as_text()
    (only,) = collectives.read(text, dict(mesh.shape))
    # The gradient [8, 8 of 16] is summed over data.
    assert (only.kind, only.axes, only.count) == ("all-reduce", "data", 1)
    assert only.bytes == pytest.approx(2 * 8 * 8 * 4 / 2)
