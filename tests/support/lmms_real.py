"""With the real lmms-eval, in an environment of its own: its registry finds our model by name, which answers three requests.

    pip install lmms-eval && pip install -e . && python -m tests.support.lmms_real

Prints one line per step and ends with "ok". Not part of the suite: the package brings some ninety others.
"""

from importlib.metadata import version
from types import SimpleNamespace

import numpy as np
from PIL import Image


def main() -> None:
    from lmms_eval import models

    print("lmms-eval", version("lmms-eval"))
    found = models.get_model("sgt_jax")
    print("the name sgt_jax resolves to", f"{found.__module__}.{found.__name__}")
    model = found.create_from_arg_string("pretrained=package:nano", {"batch_size": 2, "device": None})
    picture = Image.fromarray(np.full((32, 32, 3), 200, np.uint8))
    asked = ["what colour is the circle ?", "how many squares are there ?", "is there a red circle ?"]
    model.task_dict = {"mini": {"test": asked}}

    def messages(doc):
        content = [{"type": "image", "url": picture}, {"type": "text", "text": doc}]
        return [{"role": "user", "content": content}]

    settings = {"max_new_tokens": 4, "temperature": 0, "until": ["\n\n"]}
    requests = [SimpleNamespace(args=("", messages, settings, i, "mini", "test")) for i in range(len(asked))]
    for question, answer in zip(asked, model.generate_until(requests), strict=True):
        print(f"{question} -> {answer!r}")
    print("ok")


if __name__ == "__main__":
    main()
