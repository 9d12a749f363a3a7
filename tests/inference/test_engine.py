"""The engine: results do not depend on the load, slots are filled again, what is refused, late or cancelled ends alone."""

import dataclasses
import threading
import time

import numpy as np
import pytest

from sgt_jax.errors import DataError
from sgt_jax.inference import load
from sgt_jax.inference.engine import Engine, Full, Limits, Request, Stopped
from sgt_jax.inference.jobs import Canceled
from tests.support.serving_pictures import photo

QUESTION = "what colour is the circle ?"


@pytest.fixture(scope="module")
def model():
    return load.load("package:nano")


@pytest.fixture(scope="module")
def engine(model):
    found = Engine(model, Limits(slots=3, prefill=2, pictures=2, chunk=2, sizes=((32, 32),)))
    found.start(warm=False)
    yield found
    found.stop()


def texts(count, **more):
    """Requests of different lengths: every second one has a picture."""
    return [
        Request([*([photo(n)] if n % 2 else []), QUESTION], "chat", seed=n, max_new_tokens=2 + 3 * n,
                temperature=1.0, ignore_end=True, **more)
        for n in range(count)
    ]  # fmt: skip


def test_texts_are_those_of_the_assistant_whatever_stands_beside_them(engine, model):
    wanted = texts(7)  # more than there are slots
    jobs = [engine.submit(one) for one in wanted]
    together = [job.result(60).ids for job in jobs]
    assert [len(ids) for ids in together] == [2 + 3 * n for n in range(7)]
    alone = [engine.submit(one).result(60).ids for one in wanted]
    assert together == alone
    assert len(set(together)) == 7
    warm = Request([photo(1), QUESTION], "chat", max_new_tokens=5, temperature=2.0, seed=3)
    answer = engine.submit(warm).result(60)
    said = model.chat(warm.history, max_new_tokens=5, temperature=2.0, seeds=[3])
    assert [model.tokenizer.decode(answer.ids)] == said and said[0]


@pytest.mark.slow  # 10 s of compiling
def test_pictures_are_those_of_the_assistant_whatever_stands_beside_them(engine, model):
    wanted = [Request(["a red circle"], "t2i", seed=5), Request(["a blue square"], "t2i", seed=6)]
    beside = [engine.submit(one) for one in texts(2)]
    together = [job.result(90).picture for job in [engine.submit(one) for one in wanted]]
    alone = model.draw(["a red circle"], seeds=[5])[0].picture
    assert np.abs(together[0].astype(int) - alone).max() <= 1
    assert np.abs(together[0].astype(int) - together[1]).max() > 20
    assert all(job.result(60).ids for job in beside)
    for changes in ({"text_scale": 1.0}, {"renorm": "channel", "renorm_min": 0.1}, {"renorm": "text_channel", "low": 0.0}):
        guided = dataclasses.replace(model.defaults["t2i"].guidance, **changes)
        settings, known = dataclasses.replace(model.defaults["t2i"], steps=4, guidance=guided), engine.programs.compiled
        found = engine.submit(Request(["a red circle"], "t2i", seed=5, settings=settings)).result(90).picture
        alone = model.draw(["a red circle"], seeds=[5], settings=settings)[0].picture
        assert np.abs(found.astype(int) - alone).max() <= 1 and engine.programs.compiled <= known + 3  # of one picture


def test_a_listener_hears_every_token_and_the_end(engine):
    told, ended = [], threading.Event()

    def listen(kind, value):
        told.append((kind, value))
        if kind == "end":
            ended.set()

    job = engine.submit(dataclasses.replace(texts(3)[2], max_new_tokens=7), listen)
    ids = job.result(60).ids
    assert ended.wait(10)
    assert told[-1] == ("end", None) and [i for kind, new in told[:-1] for i in new] == list(ids) and len(ids) == 7


def test_what_is_late_or_left_ends_and_the_others_go_on(engine):
    long = dataclasses.replace(texts(1)[0], max_new_tokens=400)
    late, left, other = engine.submit(long, timeout=0.0), engine.submit(long), engine.submit(texts(2)[1])
    left.cancel()
    with pytest.raises(TimeoutError, match="longer than it may"):
        late.result(60)
    with pytest.raises(Canceled):
        left.result(60)
    assert len(other.result(60).ids) == 5


@pytest.mark.slow  # 10 s of compiling for long prompts
def test_room_is_cut_to_what_the_model_has_and_what_does_not_fit_is_refused(engine):
    most = engine.submit(dataclasses.replace(texts(1)[0], max_new_tokens=32_768)).result(60)
    assert len(most.ids) + most.read + 1 == 512 and not most.ended
    with pytest.raises(DataError, match="shorten"):
        engine.submit(Request(["blue " * 600], "chat"))
    with pytest.raises(DataError, match="empty"):
        engine.submit(Request([], "chat"))
    with pytest.raises(DataError, match="8 to 32 pixels"):
        engine.submit(Request(["a"], "t2i", shape=(64, 64)))


def test_a_full_queue_refuses_and_a_stopped_engine_finishes_what_it_accepted(model, engine):
    small = Engine(model, dataclasses.replace(engine.limits, waiting=2))
    small.programs = small._writing._programs = engine.programs
    wanted = texts(2)[0]
    jobs = [small.submit(wanted) for _ in range(7)]  # two wait, and there is room for three texts and two pictures in work
    with pytest.raises(Full, match="2 requests are waiting"):
        small.submit(wanted)
    small.start(warm=False)
    stopping = threading.Thread(target=small._stopping.set)
    stopping.start()
    assert len({job.result(60).ids for job in jobs}) == 1
    small._thread.join(20)
    with pytest.raises(Stopped):
        small.submit(wanted)


def test_a_fault_of_ours_reaches_everybody_who_waits(model):
    broken = Engine(model, Limits(slots=1))

    def fail():
        raise RuntimeError("broken")

    broken._writing.turn = fail
    jobs = [broken.submit(one) for one in texts(2)]
    hook, threading.excepthook = threading.excepthook, lambda _: None
    try:
        broken.start(warm=False)
        for job in jobs:
            with pytest.raises(RuntimeError, match="broken"):
                job.result(20)
        deadline = time.monotonic() + 10
        while broken.failure is None and time.monotonic() < deadline:
            time.sleep(0.01)
        with pytest.raises(Stopped):
            broken.submit(texts(1)[0])
    finally:
        threading.excepthook = hook
