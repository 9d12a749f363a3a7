"""lmms-eval finds our model by an entry point; a stub stands for the two classes of it that we touch."""

import configparser
import importlib
import subprocess
import sys
from importlib.metadata import EntryPoint
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from sgt_jax.errors import DataError
from tests.support.paths import REPOSITORY


class Manifest:
    def __init__(self, model_id, simple_class_path=None, chat_class_path=None, aliases=()):
        self.model_id, self.chat_class_path, self.simple_class_path = model_id, chat_class_path, simple_class_path


class Lmms:
    is_simple = True

    def __init__(self):
        self._rank, self._world_size, self.task_dict = 0, 1, {}


@pytest.fixture
def stub(monkeypatch):
    """lmms_eval as far as we know it."""
    for name, members in {"lmms_eval": {}, "lmms_eval.api": {}, "lmms_eval.api.model": {"lmms": Lmms}, "lmms_eval.models": {},
                          "lmms_eval.models.registry_v2": {"ModelManifest": Manifest}}.items():  # fmt: skip
        module = ModuleType(name)
        vars(module).update(members)
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.delitem(sys.modules, "sgt_jax.inference.lmms_model", raising=False)
    yield
    sys.modules.pop("sgt_jax.inference.lmms_model", None)


def resolved():
    """The class, found as lmms-eval finds it: by the entry point that setup.cfg declares."""
    setup = configparser.ConfigParser()
    setup.read(REPOSITORY / "setup.cfg")
    line = next(x for x in setup["options.entry_points"]["lmms_eval.models"].splitlines() if x.strip())
    name, target = (part.strip() for part in line.split("="))
    made = EntryPoint(name, target, "lmms_eval.models").load()()
    assert made.model_id == "sgt_jax" and made.simple_class_path is None
    module, name = made.chat_class_path.rsplit(".", 1)
    return getattr(importlib.import_module(module), name)


def request(model, content, **settings):
    model.task_dict = {"task": {"test": {7: "doc"}}}
    messages = [{"role": "system", "content": " "}, {"role": "user", "content": content}]
    return SimpleNamespace(args=("", lambda doc: messages, {"max_new_tokens": 3, **settings}, 7, "task", "test"))


def test_the_entry_point_resolves_and_answers(stub):
    cls = resolved()
    assert issubclass(cls, Lmms) and cls.is_simple is False
    model = cls(pretrained="package:nano", batch_size="1", device="cuda:0", max_batch_size=None)
    picture = Image.fromarray(np.full((32, 32, 3), 200, np.uint8))
    asked = [{"type": "image", "url": picture}, {"type": "text", "text": "what colour is the circle ?"}]
    requests = [request(model, asked), request(model, asked, until=[" "])]
    answers = model.generate_until(requests)
    direct = model._assistant.chat([np.asarray(picture), "what colour is the circle ?"], max_new_tokens=3)[0]
    assert direct and answers == [direct, direct.split(" ")[0]]
    with pytest.raises(DataError, match="not a video"):
        model.generate_until([request(model, [{"type": "video", "url": "x"}])])
    with pytest.raises(DataError, match="set temperature=0"):
        model.generate_until([request(model, asked, temperature=0.7)])
    with pytest.raises(NotImplementedError, match="generate_until"):
        model.loglikelihood([])


def test_wrong_arguments_are_named(stub):
    with pytest.raises(DataError, match="has no quantize"):
        resolved()(pretrained="package:nano", quantize="8bit")


def test_nothing_of_lmms_eval_is_imported_before_it_asks():
    code = (
        "import sys, sgt_jax.inference.lmms_plugin as p; assert 'lmms_eval' not in sys.modules and p.MODEL == 'sgt_jax'"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
