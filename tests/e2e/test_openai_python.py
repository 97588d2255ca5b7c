"""The official Python OpenAI SDK with only the base URL changed."""

import asyncio
import json

import openai
import pytest

from tests.harness.stack import SLOW, chat, eventually


@pytest.fixture
def client(stack):
    return openai.OpenAI(base_url=f"{stack.origin}/v1", api_key="any", timeout=30 * SLOW)


def test_chat(client):
    answer = client.chat.completions.create(model="sim-model", messages=[{"role": "user", "content": "hello"}])
    assert answer.choices[0].message.content and answer.choices[0].finish_reason == "stop"
    assert answer.usage.total_tokens > 0 and answer._request_id


def test_completions(client):
    answer = client.completions.create(model="sim-model", prompt="once upon", max_tokens=16)
    assert answer.object == "text_completion" and answer.choices[0].text


def test_embeddings_default_and_float_agree(client):
    """The SDK asks for base64 when no format is named and decodes it itself."""
    plain = client.embeddings.create(model="sim-model", input=["a", "b"], encoding_format="float")
    packed = client.embeddings.create(model="sim-model", input=["a", "b"])
    assert len(plain.data) == len(packed.data) == 2
    for one, other in zip(plain.data, packed.data):
        assert one.embedding == pytest.approx(list(other.embedding), abs=1e-6)


def test_models(client):
    eventually(lambda: "sim-model" in {model.id for model in client.models.list()}, 5, "the worker's models are listed")
    assert client.models.retrieve("sim-model").id == "sim-model"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("no/such:model")


def test_errors_become_the_sdks_classes(client):
    once = client.with_options(max_retries=0)
    with pytest.raises(openai.BadRequestError) as caught:
        once.chat.completions.create(model="sim-model", messages=[{"role": "user", "content": "x"}],
                                     user="sim:status=400")
    assert caught.value.body["message"]
    with pytest.raises(openai.BadRequestError) as caught:
        once.chat.completions.create(model="", messages=[])
    assert caught.value.param == "model"


def test_held_call_is_retried_by_us_not_by_the_sdk(stack, client):
    with pytest.raises(openai.InternalServerError) as caught:
        client.chat.completions.create(model="sim-model", messages=[{"role": "user", "content": "x"}],
                                       user="sim:status=500,nonce=held500",
                                       extra_headers={"Penstock-Expires-Ms": "20000"})
    assert caught.value.response.headers["x-should-retry"] == "false"
    assert stack.sim.nonces()["held500"] == 5


def test_respond_async(stack, client, api):
    raw = client.chat.completions.with_raw_response.create(
        model="sim-model", messages=[{"role": "user", "content": "later"}],
        extra_headers={"Prefer": "respond-async", "Penstock-Priority": "low", "Penstock-Metadata": '{"a": "b"}'})
    assert raw.http_response.status_code == 202
    assert raw.headers["preference-applied"].startswith("respond-async")
    job = json.loads(raw.text if isinstance(raw.text, str) else raw.text())
    assert raw.headers["location"] == f"/v1/jobs/{job['id']}"
    assert job["priority"] == "low" and job["metadata"] == {"a": "b"}
    assert api.finish(job["id"])["status"] == "succeeded"


def test_idempotent_held_call_attaches(stack, client):
    def call():
        return client.chat.completions.create(
            model="sim-model", messages=[{"role": "user", "content": "same"}], user="sim:delay_ms=300,nonce=attach",
            extra_headers={"Idempotency-Key": "attach-1"})

    assert call().id == call().id
    assert stack.sim.nonces()["attach"] == 1


def test_a_client_that_leaves_cancels_its_call(stack, api):
    before = stack.sim.stats()["cancelled"]

    async def leave():
        async with openai.AsyncOpenAI(base_url=f"{stack.origin}/v1", api_key="any", max_retries=0) as client:
            call = asyncio.create_task(client.chat.completions.create(**chat("bye", user="sim:delay_ms=60000,nonce=leaves")))
            while "leaves" not in await asyncio.to_thread(stack.sim.nonces):
                await asyncio.sleep(0.01)
            call.cancel()
            await asyncio.gather(call, return_exceptions=True)
    asyncio.run(asyncio.wait_for(leave(), 10 * SLOW))
    eventually(lambda: stack.sim.stats()["cancelled"] > before, 5, "upstream call is aborted")
    newest = api.json("GET", "/v1/jobs?limit=1", expect=200)["data"][0]
    assert newest["status"] == "cancelled" and newest["priority"] == "high"


def test_many_at_once(stack):
    async def run():
        async with openai.AsyncOpenAI(base_url=f"{stack.origin}/v1", api_key="any", timeout=60 * SLOW) as client:
            return await asyncio.gather(*(client.chat.completions.create(**chat(f"n{i}", user="sim:delay_ms=300"))
                                          for i in range(200)))

    answers = asyncio.run(run())
    assert len({answer.id for answer in answers}) == 200
