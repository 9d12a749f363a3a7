"""After one batch of each bucket nothing is compiled any more, whatever the lengths of texts and the sizes of pictures."""

import logging
import random

import jax
import pytest

from sgt_jax.commands.mesh_option import mesh_of
from sgt_jax.errors import ConfigError
from sgt_jax.evaluation.benchmarks import answering
from sgt_jax.evaluation.benchmarks.buckets import MOST
from sgt_jax.evaluation.benchmarks.items import Item, Picture
from sgt_jax.evaluation.benchmarks.records import Kept
from sgt_jax.inference import load
from sgt_jax.inference.subject import CheckpointSubject
from tests.support import benchmark_folders as folders

ITEMS, BATCH = 200, 8


class Compiled(logging.Handler):
    """Names of the programs that JAX says it compiles."""

    def __init__(self):
        super().__init__()
        self.names = []

    def emit(self, record):
        if record.getMessage().startswith("Compiling "):
            self.names.append(record.getMessage().split()[1])


@pytest.mark.slow  # six programs of the nano model are compiled, and 200 questions answered
def test_nothing_is_compiled_after_one_batch_of_each_bucket():
    draw, assistant = random.Random(0), load.load("package:nano")
    subject = CheckpointSubject(assistant, {}, ())
    words = "what colour is the red circle left of the blue square ?".split()
    questions = []
    for number in range(ITEMS):
        size = draw.randrange(8, 48), draw.randrange(8, 48)
        picture = Picture(str(number), data=folders.picture(number, size=size))
        text = " ".join(draw.choice(words) for _ in range(draw.randrange(3, 120)))
        questions.append(answering.Question(Item(str(number), {}, (picture,) * draw.choice((1, 1, 1, 2))), text))
    asked, handler, logger = answering.Asked(subject, questions, BATCH), Compiled(), logging.getLogger("jax")
    assert 2 <= len({batch.bucket for batch in asked.batches}) <= MOST
    first = {batch.bucket: batch for batch in reversed(asked.batches)}
    how = dict(max_new_tokens=3, batch=BATCH)

    def answer(batches, records):
        asked.batches = batches
        answering.answer(subject, assistant.params, asked, records, **how)

    every, records = list(asked.batches), Kept()
    level = logger.level
    logger.addHandler(handler)
    try:
        with jax.log_compiles():
            answer(list(first.values()), records)
            warm = list(handler.names)
            answer(every, records)
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
    assert warm, "the log says nothing about compilations"
    assert handler.names == warm
    assert len(records) == ITEMS


@pytest.mark.slow  # two programs of the nano model, one of them over four devices
def test_rows_of_a_batch_are_spread_over_the_mesh_and_replies_stay(monkeypatch):
    questions = [
        answering.Question(
            Item(str(n), {}, (Picture(str(n), data=folders.picture(n)),)), "what colour is the circle ? " * (n % 3 + 1)
        )
        for n in range(8)
    ]
    replies, placed = [], []
    for mesh in (None, mesh_of("data=2,fsdp=2")):
        assistant = load.load("package:nano", mesh=mesh)
        subject, records, write = CheckpointSubject(assistant, {}, ()), Kept(), assistant.sampler(())._write

        def spy(params, rows, *more, write=write, **static):
            placed.append((rows["und"]["token"].sharding, rows["und"]["token"].addressable_shards[0].data.shape[0]))
            return write(params, rows, *more, **static)

        monkeypatch.setattr(assistant.sampler(()), "_write", spy)
        asked = answering.Asked(subject, questions, 8)
        asked.batches = asked.batches[:1]
        answering.answer(subject, assistant.params, asked, records, max_new_tokens=4, batch=8)
        replies.append([records.get(str(n)) for n in range(8)])
    (one, rows), (four, part) = placed
    assert (len(one.device_set), rows, len(four.device_set), part) == (1, 8, 4, 2)
    assert replies[0] == replies[1] and any(entry and entry["reply"] for entry in replies[0])
    with pytest.raises(ConfigError, match="multiple of 4"):
        answering.answer(subject, assistant.params, asked, Kept(), max_new_tokens=4, batch=6)
