"""What `plan --mode sample` compiles is what `sample` runs."""

import jax
import numpy as np
import pytest

from sgt_jax.data.text.tokenizer import Tokenizer
from sgt_jax.errors import ConfigError
from sgt_jax.inference import load
from sgt_jax.inference.assistant import Assistant
from sgt_jax.models import family as families
from sgt_jax.planning.request import Request
from sgt_jax.planning.sampling import plan_sampling
from sgt_jax.training.config_file import load as load_config

CONFIGS = {"bagel": "configs/bagel_7b_sgt.py:local", "omnigen2": "configs/omnigen2_sgt.py:local"}


class Found(Exception):
    """Ends a request where its program would run."""


@pytest.mark.parametrize("task", ["t2i", "edit", "segment"])
@pytest.mark.parametrize("family", CONFIGS)
def test_the_programs_are_those_of_the_assistant(family, task):
    config, count = load_config(CONFIGS[family]), 2
    planned = plan_sampling(config, Request(task, (32, 32), tokens=5, pictures=count, dtype="float32"))
    kind = families.by_name(family)
    defaults = load.defaults_of_run(kind, config.to_dict())
    model = kind.config(config.model.to_dict()).replace(**load.computing(kind, "float32"))
    assistant = Assistant(kind, model, planned.params, Tokenizer.nano(), defaults=defaults)
    history = ["is there a red circle"] if task == "t2i" else [np.zeros((32, 32, 3), np.uint8), "is there a red circle"]
    canvases = assistant.request(history, task, None, defaults[task])[1].layout.canvases
    sampler = assistant.sampler(tuple(canvases))

    def painting(*arguments, shape, guidance):
        raise Found(arguments, shape, guidance)

    sampler.painting = painting
    with pytest.raises(Found) as found:
        assistant.paint(history, task, seeds=range(count), shape=(32, 32) if task == "t2i" else None)
    arguments, shape, guidance = found.value.args
    program, given = planned.programs["painting"]
    assert program.keywords == {"shape": shape, "guidance": guidance} and shape == planned.size
    assert planned.steps == defaults[task].steps and planned.branches == len(arguments[1]["und"]["sample"]) // count
    types = [jax.tree.map(lambda x: (x.shape, np.dtype(x.dtype).kind), tree) for tree in (arguments[1:], given[1:])]
    assert types[0] == types[1]

    params, latents = planned.programs["decoding"][1]
    pictures = jax.eval_shape(planned.programs["decoding"][0], params, latents)
    assert pictures.shape == (count, *shape, 3) and pictures.dtype == np.uint8


def test_what_cannot_be_painted_is_said():
    config = load_config(CONFIGS["bagel"])
    with pytest.raises(ConfigError, match="task 'chat' cannot be planned; choose one of t2i"):
        plan_sampling(config, Request("chat"))
    with pytest.raises(ValueError, match="paints pictures of"):
        plan_sampling(config, Request(size=(4096, 4096)))
