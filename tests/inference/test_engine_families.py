"""The engine with OmniGen2 is as its sampler; with padded batches the same bytes come under any load."""

import dataclasses

import jax
import numpy as np
import pytest

from sgt_jax.data.text.tokenizer import Tokenizer
from sgt_jax.errors import ConfigError
from sgt_jax.inference import load
from sgt_jax.inference.assistant import Assistant
from sgt_jax.inference.engine import Engine, Limits, Request
from sgt_jax.models.family import by_name
from tests.support import tiny_omnigen2
from tests.support.serving_pictures import photo

pytestmark = pytest.mark.slow  # each compiles programs of its own, about 20 s


def test_omnigen2_writes_and_paints_as_its_sampler_does():
    family = by_name("omnigen2")
    config = tiny_omnigen2.config()
    model = Assistant(
        family, config, tiny_omnigen2.random_params(family.model(config)), Tokenizer.nano(), default_shape=(16, 16)
    )
    guided = dataclasses.replace(model.defaults["edit"].guidance, negative="red", solver="dpm", high=0.5)
    settings = dataclasses.replace(model.defaults["edit"], steps=3, guidance=guided)
    unled = dataclasses.replace(settings, guidance=dataclasses.replace(guided, image_scale=1.0, solver="euler"))
    picture = photo(3, 16)
    wanted = [
        Request([picture, "how many ?"], "chat", seed=1, max_new_tokens=6, temperature=1.0),
        Request(["a red circle"], "chat", seed=2, max_new_tokens=6),
        Request([picture, "a blue square"], "edit", seed=3, settings=settings),
        Request([picture, "a red circle"], "edit", seed=4, settings=settings),
        Request([picture, photo(4, 16), "both"], "edit", seed=5, settings=unled),  # among programs of five pictures
    ]
    engine = Engine(model, Limits(slots=2, prefill=2, pictures=2, context=128, sizes=((16, 16),)))
    found = engine.run(wanted)
    decode = model.tokenizer.decode
    assert [decode(found[0].ids)] == model.chat(wanted[0].history, max_new_tokens=6, temperature=1.0, seeds=[1])
    assert [decode(found[1].ids)] == model.chat(wanted[1].history, max_new_tokens=6)
    for request, result in zip(wanted[2:], found[2:], strict=True):
        alone = model.edit(request.history, seeds=[request.seed], settings=request.settings)[0].picture
        assert np.abs(alone.astype(int) - result.picture).max() <= 1
    assert np.abs(found[2].picture.astype(int) - found[3].picture).max() > 1


def test_padded_batches_give_the_same_bytes_under_any_load():
    model = load.load("package:nano")
    settings = dataclasses.replace(model.defaults["t2i"], steps=3)
    history = [photo(1), "what colour is the circle ?"]
    one = Request(history, "chat", seed=5, temperature=3.0, max_new_tokens=24, ignore_end=True)
    drawn = Request(["a red circle"], "t2i", seed=5, settings=settings)
    others = [dataclasses.replace(one, seed=n, history=[photo(n), "is there a star ?"]) for n in range(6, 13)]
    more = [dataclasses.replace(drawn, seed=n) for n in range(6, 9)]
    alone, again, beside = (Engine(model, Limits(slots=4, prefill=2, pictures=4, deterministic=True)) for _ in range(3))
    beside.programs = again.programs = alone.programs  # a restart would find them on disk
    for engine in (again, beside):
        engine._writing._programs = engine._canvas._programs = alone.programs
    first = alone.run([one, drawn])
    crowded = beside.run([*others[:4], one, *others[4:], *more, drawn])
    for other in (again.run([one, drawn]), [crowded[4], crowded[-1]]):
        assert other[0].ids == first[0].ids and len(first[0].ids) == 24
        assert other[1].picture.tobytes() == first[1].picture.tobytes()
    assert len({result.ids for result in crowded[:8]}) == 8


def test_a_model_on_four_devices_serves_as_on_one():
    from sgt_jax.commands import serve

    mesh = serve.mesh_of("fsdp=2,tensor=2")
    one, spread = load.load("package:nano"), load.load("package:nano", mesh=mesh)
    table = spread.params["decoder"]
    assert any(len(x.sharding.device_set) == 4 and not x.is_fully_replicated for x in jax.tree.leaves(table))
    settings = dataclasses.replace(one.defaults["t2i"], steps=2)
    text = Request([photo(1), "is there a star ?"], "chat", seed=5, temperature=1.0, max_new_tokens=8, ignore_end=True)
    wanted = [text, Request(["a red circle"], "t2i", seed=5, settings=settings)]
    limits = Limits(slots=2, prefill=1, pictures=1)
    alone, together = Engine(one, limits).run(wanted), Engine(spread, limits, mesh).run(wanted)
    assert alone[0].ids == together[0].ids and len(alone[0].ids) == 8
    assert np.abs(alone[1].picture.astype(int) - together[1].picture).max() <= 1
    with pytest.raises(ConfigError, match="AXIS=NUMBER"):
        serve.mesh_of("fsdp=x")
