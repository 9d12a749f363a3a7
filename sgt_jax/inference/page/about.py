"""What a client is told of the models: their names, defaults, words and examples."""

import dataclasses
from typing import Any

from sgt_jax.data.text.tokenizer import SMALL
from sgt_jax.inference.assistant import Assistant
from sgt_jax.inference.offered import Offered
from sgt_jax.inference.page.service import Service


def model(service: Service, name: str) -> dict[str, Any]:
    """An entry of the list of models."""
    return {"id": name, "object": "model", "created": service.started, "owned_by": "sgt_jax"}


def most_references(service: Service) -> int:
    """Pictures that an edit may have."""
    return max(engine.assistant.family.references for engine in service.engines.values())


def page(service: Service) -> dict[str, Any]:
    """What the page is made of: models, defaults per mode, sizes, words, examples."""
    main = next(iter(service.engines.values())).assistant
    stride = main.family.painting_rule(main.config).stride
    offered = next(iter(service.engines.values())).offered
    return {
        "models": [{"id": name, "weights": service.weights[name]} for name in service.engines],
        "family": main.family.name,
        "defaults": {mode: _settings(mode, settings, offered) for mode, settings in main.defaults.items()},
        "largest_side": main.family.largest_side(main.config),
        "stride": stride,
        "default_size": list(main.usual_shape)[::-1],
        "sizes": [f"{width}x{height}" for height, width in offered.sizes] if offered else [],
        "thinks": main.family.thinks,
        "palette": main.palette or "auto",
        "references": most_references(service),
        "words": words(main),
        "examples": examples(main),
        "key": bool(service.key),
    }


def _settings(mode: str, settings: Any, offered: Offered | None) -> dict[str, Any]:
    """The fields of a mode, without what the server would refuse to change."""
    found = {"steps": settings.steps, "shift": settings.shift} | dataclasses.asdict(settings.guidance)
    if offered is not None and mode != "chat" and all(kind.image_scale <= 1 for kind in offered.kinds(mode)):
        found.pop("image_scale")
    return found


def words(assistant: Assistant) -> list[str]:
    """The words of a tiny vocabulary, without its marks; none of a large one."""
    if assistant.tokenizer.size >= SMALL:
        return []
    texts = [assistant.tokenizer.decode([number]).strip() for number in range(assistant.tokenizer.size)]
    return [text for text in texts if text and "<" not in text]


def examples(assistant: Assistant) -> dict[str, list[str]]:
    """Prompts that the loaded model can read, by mode."""
    small = {
        "chat": ["what colour is the circle ?", "how many objects are there ?", "is there a star ?"],
        "t2i": ["a red circle", "a large blue square and a small green triangle", "three yellow stars"],
        "edit": ["remove the circle", "copy the picture"],
    }
    large = {
        "chat": ["What is in this picture?", "How many people are there?"],
        "t2i": ["A lighthouse on a cliff at dusk, oil painting", "A cup of tea on a wooden table"],
        "edit": ["Make it winter", "Remove the background"],
    }
    found = small if assistant.tokenizer.size < SMALL else large
    known = {mode: [one for one in texts if not assistant.tokenizer.unknown_words(one)] for mode, texts in found.items()}
    return known | {"segment": [assistant._instruction]}
