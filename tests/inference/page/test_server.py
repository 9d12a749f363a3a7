"""The endpoint, as its clients see it: the official openai client, recorded bodies of two toolkits, and hostile bodies."""

import asyncio
import dataclasses
import json
import re

import numpy as np
import pytest

openai = pytest.importorskip("openai", reason="pip install -e '.[serve,clients]' to test the server")
httpx = pytest.importorskip("httpx", reason="pip install -e '.[serve,clients]' to test the server")
pytest.importorskip("uvicorn", reason="pip install -e '.[serve,clients]' to test the server")

from sgt_jax.checkpoints import adapters_out  # noqa: E402
from sgt_jax.commands import serve  # noqa: E402
from sgt_jax.data.pictures import rle  # noqa: E402
from sgt_jax.inference import load  # noqa: E402
from sgt_jax.inference.engine import Limits  # noqa: E402
from tests.support import paths, serving  # noqa: E402
from tests.support.random_adapter import RULES, random_adapter  # noqa: E402
from tests.support.serving_pictures import data_uri, message, photo, png, unpacked  # noqa: E402

# About a minute of compiling: drawing, editing and segmenting each have programs of their own.
pytestmark = pytest.mark.slow
GOLDEN = paths.REPOSITORY / "tests" / "golden" / "serve"
QUESTION = "what colour is the circle ?"
KEY = "sk-test"


@pytest.fixture(scope="module")
def model():
    return load.load("package:nano")


@pytest.fixture(scope="module")
def server(model):
    limits = Limits(slots=4, prefill=2, pictures=2, sizes=((32, 32),))
    with serving.running(model, limits, KEY, most_body=3_000_000) as (address, service):
        yield address, service


@pytest.fixture(scope="module")
def client(server):
    return openai.OpenAI(base_url=server[0] + "/v1", api_key=KEY, max_retries=0)


@pytest.fixture(scope="module")
def http(server):
    with httpx.Client(base_url=server[0], headers={"Authorization": f"Bearer {KEY}"}, timeout=120) as found:
        yield found


def post(http, body, path="/v1/chat/completions"):
    return http.post(path, content=body if isinstance(body, bytes) else json.dumps(body))


# -- Chat --------------------------------------------------------------------------------------------------------------


def test_a_chat_with_two_pictures_answers_as_the_assistant(client, model):
    found = client.chat.completions.create(model="nano", messages=message(photo(1), photo(2), QUESTION), max_tokens=8)
    (choice,) = found.choices
    assert [choice.message.content] == model.chat([photo(1), photo(2), QUESTION], max_new_tokens=8)
    assert choice.finish_reason == "stop" and choice.message.role == "assistant"
    written = len(model.tokenizer.encode(choice.message.content))
    assert (found.usage.completion_tokens, found.usage.total_tokens) == (written, found.usage.prompt_tokens + written)
    assert found.usage.prompt_tokens > 2 * 16  # 16 patches a picture


def test_a_stream_brings_the_same_text_and_its_usage(client):
    asked = dict(model="nano", messages=message(photo(1), QUESTION), max_tokens=20, seed=4, temperature=5.0,
                 extra_body={"ignore_eos": True})  # fmt: skip
    whole = client.chat.completions.create(**asked)
    chunks = list(client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content and len(chunks) > 3
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == whole.choices[0].finish_reason == "length"
    assert chunks[-1].usage == whole.usage and whole.usage.completion_tokens == 20
    assert len({chunk.id for chunk in chunks}) == 1


def test_seed_temperature_and_stop_do_what_they_say(client):
    def ask(**more):
        asked = dict(model="nano", messages=message(QUESTION), max_tokens=12, extra_body={"ignore_eos": True})
        return [c.message.content for c in client.chat.completions.create(**asked | more).choices]

    assert ask() == ask(seed=5)  # greedy
    assert ask(temperature=5.0, seed=5) == ask(temperature=5.0, seed=5) != ask(temperature=5.0, seed=6)
    assert ask(temperature=5.0, seed=5, n=2) == ask(temperature=5.0, seed=5) + ask(temperature=5.0, seed=6)
    (whole,) = ask(temperature=5.0, seed=5)
    word = whole.split()[4]
    cut = whole[: whole.index(word)]
    assert ask(temperature=5.0, seed=5, stop=[word]) == [cut]
    pieces = client.chat.completions.create(
        model="nano", messages=message(QUESTION), max_tokens=12, stop=word, stream=True, temperature=5.0, seed=5,
        extra_body={"ignore_eos": True},
    )  # fmt: skip
    pieces = [chunk.choices[0] for chunk in pieces]
    assert "".join(piece.delta.content or "" for piece in pieces) == cut and pieces[-1].finish_reason == "stop"


@pytest.mark.parametrize("name", ["vlmevalkit", "lmms_eval"])
def test_recorded_bodies_are_answered(http, name):
    lines = [json.loads(line) for line in (GOLDEN / f"{name}.jsonl").read_text().splitlines()]
    assert len(lines) == {"vlmevalkit": 6, "lmms_eval": 2}[name]
    for recorded in lines:
        headers = recorded["headers"] | {"authorization": f"Bearer {KEY}"}
        found = http.post(recorded["path"], json=recorded["body"], headers=headers)
        assert found.status_code == 200, found.text
        if recorded["body"].get("stream"):
            events = [line.removeprefix("data: ") for line in found.text.splitlines() if line]
            assert found.headers["content-type"].startswith("text/event-stream") and events[-1] == "[DONE]"
            assert "".join(json.loads(one)["choices"][0]["delta"].get("content", "") for one in events[:-1])
        else:
            assert found.json()["choices"][0]["message"]["content"].strip()
            assert {"id", "object", "created", "model", "choices", "usage"} <= found.json().keys()


# -- Pictures ----------------------------------------------------------------------------------------------------------


def test_pictures_are_drawn_as_by_the_assistant_and_say_how(client, model):
    found = client.images.generate(model="nano", prompt="a red circle", n=2, extra_body={"seed": 5, "steps": 3})
    first, second = (unpacked(one.b64_json) for one in found.data)
    settings = dataclasses.replace(model.defaults["t2i"], steps=3)
    alone = model.draw(["a red circle"], seeds=[5], settings=settings)[0].picture
    assert np.abs(np.asarray(first).astype(int) - alone).max() <= 1
    assert np.abs(np.asarray(first).astype(int) - np.asarray(second)).max() > 1
    inside = json.loads(second.text["sgt_jax"])
    assert (inside["seed"], inside["steps"], inside["prompt"], inside["size"]) == (6, 3, "a red circle", "32x32")
    again = client.images.generate(
        model=inside["model"], prompt=inside["prompt"], extra_body={k: inside[k] for k in ("seed", "steps", "shift")}
    )
    assert np.abs(np.asarray(unpacked(again.data[0].b64_json)).astype(int) - np.asarray(second)).max() <= 1


def test_edits_come_from_a_form_or_from_json(client, http):
    file = ("cup.png", png(photo(3)), "image/png")
    found = client.images.edit(model="nano", image=file, prompt="remove the circle", extra_body={"steps": 2, "seed": 1})
    body = {"image": data_uri(photo(3)), "prompt": "remove the circle", "steps": 2, "seed": 1}
    other = post(http, body, "/v1/images/edits").json()
    assert np.asarray(unpacked(found.data[0].b64_json)).shape == (32, 32, 3)
    assert other["data"][0]["b64_json"] == found.data[0].b64_json
    with pytest.raises(openai.BadRequestError, match="mask"):
        client.images.edit(model="nano", image=file, mask=file, prompt="remove the circle")


def test_a_segmentation_brings_painting_labels_and_parts_and_its_steps_as_they_come(http):
    body = {"image": data_uri(photo(3, 48)), "steps": 3}
    (found,) = post(http, body, "/v1/segmentations").json()["data"]
    labels = np.asarray(unpacked(found["labels_b64_json"]))
    assert unpacked(found["b64_json"]).size == (32, 32) and labels.shape == (48, 48) and found["size"] == [48, 48]
    assert labels.max() == len(found["instances"])
    for part in found["instances"]:
        np.testing.assert_array_equal(rle.decode(part["segmentation"]), labels == part["label"])
    events = post(http, body | {"stream": True}, "/v1/segmentations").text.split("\n\n")
    events = [json.loads(one.removeprefix("data: ")) for one in events if one and "DONE" not in one]
    assert [one["step"] for one in events[:-1]] == [0, 1, 2, 3]
    assert events[-1]["type"] == "completed" and events[-1]["b64_json"] == found["b64_json"]


def test_a_drawing_is_planned_as_by_the_assistant_and_its_plan_is_told(http, model):
    body = {"prompt": "a red circle", "steps": 2, "seed": 3, "think": True}
    (found,) = post(http, body, "/v1/images/generations").json()["data"]
    settings = dataclasses.replace(model.defaults["t2i"], steps=2)
    alone = model.draw(["a red circle"], seeds=[3], settings=settings, think=True)[0]
    assert found["thought"] == alone.thought and found["settings"]["think"]
    assert np.abs(np.asarray(unpacked(found["b64_json"])).astype(int) - alone.picture).max() <= 1
    events = post(http, body | {"stream": True}, "/v1/images/generations").text.split("\n\n")
    events = [json.loads(one.removeprefix("data: ")) for one in events if one and "DONE" not in one]
    assert events[0] == {"type": "thought", "text": alone.thought} and events[-1]["b64_json"] == found["b64_json"]
    refused = post(http, {"image": data_uri(photo(3)), "prompt": "a", "think": True}, "/v1/images/edits")
    assert refused.status_code == 400 and refused.json()["error"]["param"] == "think"


def test_photos_of_any_shape_and_long_prompts_are_painted_with_the_programs_that_there_are(server, http):
    wide, programs = np.zeros((24, 90, 3), np.uint8), server[1].engines["nano"].programs
    body = {"image": data_uri(photo(3)), "prompt": "remove the circle", "steps": 1}
    assert post(http, body, "/v1/images/edits").status_code == 200
    known = programs.compiled
    changed = {"image": data_uri(wide), "renorm": "global", "text_scale": 1.0, "image_scale": 1.0}
    (found,) = post(http, body | changed, "/v1/images/edits").json()["data"]
    assert unpacked(found["b64_json"]).size == (32, 8) and found["settings"]["size"] == "auto"
    assert programs.compiled == known
    refused = post(http, body | {"size": "16x16"}, "/v1/images/edits")
    assert refused.status_code == 400 and "32x32" in refused.text and programs.compiled == known


# -- Several models ----------------------------------------------------------------------------------------------------


def test_a_base_and_its_adapter_are_two_models_that_share_programs(tmp_path):
    lows = random_adapter(load.load("package:nano").family.linears(load.load("package:nano").config), RULES).modules
    lows = {module: low._replace(b=low.b * np.float32(0.05)) for module, low in lows.items()}
    adapters_out.write(tmp_path / "tuned", RULES, lows)
    options = ["--adapter", str(tmp_path / "tuned"), "--slots", "4", "--pictures", "2"]
    service = serve.make_service(serve.parser().parse_args(options))
    assert service.engines["nano"].programs is service.engines["nano+tuned"].programs
    with serving.served(service) as (address, _), httpx.Client(base_url=address, timeout=120) as http:
        assert [one["id"] for one in http.get("/v1/models").json()["data"]] == ["nano", "nano+tuned"]
        assert http.get("/v1/models/nano+tuned").json()["id"] == "nano+tuned"
        asked = chat_body(max_tokens=24, ignore_eos=True, temperature=1.0)
        base, tuned, again = (
            post(http, asked | {"model": name}).json()["choices"][0]["message"]["content"]
            for name in ("nano", "nano+tuned", "nano")
        )
        assert base == again != tuned
        assert post(http, asked | {"model": "nano+other"}).status_code == 404
        assert http.get("/about.json").json()["models"][1]["weights"] == "package:nano + tuned"


# -- What is refused ---------------------------------------------------------------------------------------------------


def chat_body(**more):
    return {"model": "nano", "messages": message(QUESTION), "max_tokens": 2} | more


def with_url(url):
    return chat_body(messages=[{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}])


def test_wrong_keys_and_large_bodies_are_refused(server, client, http):
    with pytest.raises(openai.AuthenticationError):
        openai.OpenAI(base_url=server[0] + "/v1", api_key="other", max_retries=0).models.list()
    assert http.get("/metrics", headers={"Authorization": "x"}).status_code == 401
    assert [one.id for one in client.models.list()] == ["nano"]
    assert client.models.retrieve("nano").owned_by == "sgt_jax"
    with pytest.raises(openai.APIStatusError) as found:
        client.chat.completions.create(model="nano", messages=message("x" * 3_100_000))
    assert found.value.status_code == 413


@pytest.mark.parametrize(
    "body,status,words",
    (
        (b"{", 400, "not JSON"),
        (b"[" * 100_000, 400, "not JSON"),
        (b"[]", 400, "JSON object"),
        ({"model": "nano"}, 400, "messages"),
        (chat_body(model="gpt-4o"), 404, "no model 'gpt-4o' here"),
        (chat_body(model="\ud800"), 404, "no model"),
        (chat_body(max_tokens=0), 400, "max_tokens"),
        (chat_body(temperature=float("nan")), 400, "temperature"),
        (chat_body(temperature="hot"), 400, "temperature"),
        (chat_body(n=99), 400, "'n'"),
        (chat_body(seed=1.5), 400, "whole number"),
        (chat_body(stop=[1]), 400, "stop"),
        (chat_body(stream=[]), 400, "stream"),
        (chat_body(logprobs=True), 400, "logprobs"),
        (chat_body(messages=[{"role": "robot", "content": "x"}]), 400, "role"),
        (chat_body(messages=[{"role": "user", "content": "\ud800"}]), 400, "surrogate"),
        (chat_body(messages=[{"role": "user", "content": [{"type": "input_audio"}]}]), 400, "texts and pictures"),
        (chat_body(messages=[{"role": "user", "content": "blue " * 600}]), 400, "shorten"),
        (with_url("http://127.0.0.1:1/x.png"), 400, "not opened"),
        (with_url("file:///etc/passwd"), 400, "not opened"),
        (with_url("/etc/passwd"), 400, "not opened"),
        (with_url("data:image/png;base64,!!!!"), 400, "not base64"),
        (with_url("data:image/png;base64,aGVsbG8="), 400, "not a picture"),
    ),
)  # fmt: skip
def test_bad_chats_get_one_clear_error_in_the_dialects_form(http, body, status, words):
    found = post(http, body)
    assert found.status_code == status, found.text
    said = found.json()["error"]
    assert re.search(words, said["message"]) and said.keys() == {"message", "type", "param", "code"}


@pytest.mark.parametrize(
    "path,more,words",
    (
        ("generations", {"prompt": ""}, "prompt"),
        ("generations", {"size": "1024x1024"}, "8 to 32 pixels"),
        ("generations", {"size": "-1x5"}, "WIDTHxHEIGHT"),
        ("generations", {"response_format": "url"}, "b64_json"),
        ("generations", {"steps": 10**9}, "steps"),
        ("generations", {"renorm": "sideways"}, "renorm"),
        ("generations", {"prompt": 7}, "prompt"),
        ("edits", {}, "image"),
        ("edits", {"image": [data_uri(photo())] * 2}, "one picture"),
        ("edits", {"image": 7}, "data URI"),
    ),
)  # fmt: skip
def test_bad_pictures_are_refused(http, path, more, words):
    found = post(http, {"prompt": "a red circle"} | more, f"/v1/images/{path}")
    assert found.status_code == 400 and re.search(words, found.json()["error"]["message"]), found.text


def test_a_picture_with_too_many_pixels_is_refused_before_it_is_decoded(http, monkeypatch):
    from sgt_jax.inference.page import reading

    decoded = []
    monkeypatch.setattr(reading, "load_rgb", lambda *a, **k: decoded.append(1))
    bomb = png(np.zeros((7000, 7000, 3), np.uint8))
    assert len(bomb) < 1_000_000
    found = http.post("/v1/segmentations", files={"image": ("x.png", bomb)}, data={"prompt": ""})
    assert found.status_code == 413 and "7000x7000" in found.text and not decoded


# -- What stands around them -------------------------------------------------------------------------------------------


def test_a_client_that_leaves_frees_its_slot(server, http):
    address, service = server
    engine = service.engines["nano"]

    async def leave():
        async with httpx.AsyncClient(base_url=address, headers={"Authorization": f"Bearer {KEY}"}) as client:
            body = chat_body(max_tokens=450, ignore_eos=True)
            with pytest.raises(httpx.ReadTimeout):
                await client.post("/v1/chat/completions", json=body | {"n": 8}, timeout=0.05)
            async with client.stream("POST", "/v1/chat/completions", json=body | {"stream": True}) as stream:
                async for _ in stream.aiter_lines():
                    break
            for _ in range(100):
                if not sum(engine.load().values()):
                    return
                await asyncio.sleep(0.05)
            raise AssertionError(engine.load())

    asyncio.run(leave())
    assert post(http, chat_body()).status_code == 200


def test_a_server_that_compiles_or_is_full_says_when_to_come_again(server, http):
    engine = server[1].engines["nano"]
    engine.ready.clear()
    try:
        for found in (http.get("/health"), post(http, chat_body())):
            assert found.status_code == 503 and found.headers["retry-after"] and "compiled" in found.text
    finally:
        engine.ready.set()
    taken = 0
    while engine._open.acquire(blocking=False):
        taken += 1
    try:
        found = post(http, chat_body())
        assert found.status_code == 429 and int(found.headers["retry-after"]) > 0 and "waiting" in found.text
    finally:
        for _ in range(taken):
            engine._open.release()
    assert post(http, chat_body()).status_code == 200


def test_metrics_count_and_the_server_says_what_it_has(http):
    def read():
        lines = http.get("/metrics").text.splitlines()
        return {line.split(" ")[0]: float(line.split(" ")[1]) for line in lines if not line.startswith("#")}

    before = read()
    post(http, chat_body(ignore_eos=True))
    after = read()
    grown = {name: after[name] - before.get(name, 0) for name in after}
    assert grown['sgt_requests_total{route="/v1/chat/completions",status="200"}'] == 1
    assert grown['sgt_tokens_total{kind="written"}'] == 2
    assert after['sgt_programs_compiled{model="nano"}'] > 0 and after["process_cpu_seconds_total"] > 0
    page = http.get("/")
    assert page.status_code == 200 and "default-src 'self'" in page.headers["content-security-policy"]
    assert not re.search(r"https?://", re.sub(r"http://www\.w3\.org/\S+", "", page.text))
    named = re.findall(r'(?:src|href)="([^"#]+)"', page.text)
    assert named and all(http.get(f"/{name.lstrip('/')}").status_code == 200 for name in named)
    about = http.get("/about.json").json()
    assert "circle" in about["words"] and about["defaults"]["t2i"]["steps"] > 0
    assert "image_scale" in about["defaults"]["edit"] and "image_scale" not in about["defaults"]["t2i"]
    assert about["sizes"] == ["32x32"] and about["thinks"]
    assert http.get("/health").json() == {"status": "ok"} and http.get("/nothing").status_code == 404
