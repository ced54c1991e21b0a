"""``reasonedit serve`` with real parts: OpenAI's client, a process of its own, the embedded VLM."""

import json
import signal

import openai
import pytest
from helpers.served import message_of, serving_command, uri_of

from reasonedit import ReasonEditor
from reasonedit.data.world.benchmark import EmbeddedWorld

SEED = 130


@pytest.fixture(scope="module")
def asked():
    """Edits of the world, and questions that they answer."""
    world = EmbeddedWorld(seed=SEED, edits=2)
    edits = [edit for edit, _ in zip(world.candidates(), range(2), strict=False)]
    probes = [p.query for p in world.probes(edits) if p.group in ("rel", "i_gen", "loc") and p.query.choices is None]
    return edits, probes[:5]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("served")
    with serving_command(folder, "--codebook", folder / "codebook", "--keep-questions") as server:
        yield server


@pytest.fixture(scope="module")
def local(embedded_vlm):
    """The same model, asked without any server."""
    return ReasonEditor(embedded_vlm)


@pytest.fixture(scope="module")
def written(server, local, asked):
    """The ids of edits that both have."""
    ids = []
    with server.http() as http:
        for edit in asked[0]:
            body = {"image": uri_of(edit.image), "question": edit.question, "answer": edit.answer}
            more = {"reasoning": edit.reasoning, "choices": edit.choices, "author": "Ada"}
            reply = http.post("/v1/edits", json={**body, **more})
            assert reply.status_code == 201, reply.text
            ids.append(reply.json()["id"])
            local.edit(edit.image, edit.question, answer=edit.answer, reasoning=edit.reasoning, choices=edit.choices)
    return ids


def facts_of(reply):
    return [fact["text"] for fact in reply.model_extra["reasonedit"]["facts"]]


def test_answers_and_facts_are_those_of_the_local_editor(server, local, asked, written):
    used = 0
    for query in asked[1]:
        reply, right = (
            server.ask(query.image, query.question),
            local.ask(query.image, query.question, max_new_tokens=64),
        )
        assert reply.choices[0].message.content == right.text
        assert facts_of(reply) == [hit.fact for hit in right.hits]
        assert reply.choices[0].finish_reason == "stop"
        used += bool(right.hits)
    assert used > 1


def test_the_bare_model_answers_where_edits_are_not_asked_for(server, embedded_vlm, asked, written):
    for query in asked[1][:3]:
        reply = server.ask(query.image, query.question, extra_body={"reasonedit": {"edits": False}})
        (right,) = embedded_vlm.answer(embedded_vlm.see([query.image]), [query.question], max_new_tokens=64)
        assert reply.choices[0].message.content == right
        assert reply.model_extra["reasonedit"]["facts"] == []
        assert reply.model_extra["reasonedit"]["edits"] is False


def test_choices_are_chosen_as_locally(server, local, asked, written):
    for query in asked[1][:3]:
        choices = ["a thing", local.ask(query.image, query.question).text, "nothing at all"]
        reply = server.ask(query.image, query.question, extra_body={"reasonedit": {"choices": choices}})
        assert reply.choices[0].message.content == local.ask(query.image, query.question, choices).text


def test_a_stream_says_the_same_and_ends_with_what_the_codebook_did(server, asked, written):
    query = asked[1][0]
    whole = server.ask(query.image, query.question)
    chunks = list(server.ask(query.image, query.question, stream=True, stream_options={"include_usage": True}))
    said = [chunk.choices[0] for chunk in chunks if chunk.choices]
    assert "".join(choice.delta.content or "" for choice in said) == whole.choices[0].message.content
    assert [choice.finish_reason for choice in said if choice.finish_reason] == ["stop"]
    assert [f["text"] for f in chunks[-2].model_extra["reasonedit"]["facts"]] == facts_of(whole)
    assert chunks[-1].usage == whole.usage


def test_a_stream_comes_word_by_word_while_it_is_made(server, asked, written):
    """The pieces are those of the model's tokens: more than one of an answer of several words."""
    pieces = [c.choices[0].delta.content for c in server.ask(asked[1][0].image, "Describe this image.", stream=True)]
    assert len([piece for piece in pieces if piece]) > 2


def test_stops_and_lengths_cut_an_answer_the_same_way_whole_or_streamed(server, asked):
    image, question = asked[1][0].image, "Describe this image."
    whole = server.ask(image, question).choices[0].message.content
    stop = whole.split()[2]
    for how, text, reason in (
        ({"stop": [stop]}, whole[: whole.index(stop)], "stop"),
        ({"max_tokens": 2}, None, "length"),
    ):
        cut = server.ask(image, question, **how)
        chunks = [c.choices[0] for c in server.ask(image, question, stream=True, **how) if c.choices]
        assert cut.choices[0].finish_reason == reason
        assert chunks[-1].finish_reason == reason
        assert "".join(c.delta.content or "" for c in chunks) == cut.choices[0].message.content
        assert cut.choices[0].message.content == text or (
            text is None and whole.startswith(cut.choices[0].message.content)
        )


def test_log_probabilities_are_those_of_the_model(server, embedded_vlm, asked):
    query = asked[1][0]
    bare = {"reasonedit": {"edits": False}}
    vision = embedded_vlm.see([query.image])
    right = embedded_vlm.next_token_probabilities(vision, [embedded_vlm.prompt(query.question)])[0].log()
    for length in (1, 8):  # the one token alone is read off the pass that reads the prompt
        reply = server.ask(
            query.image, query.question, logprobs=True, top_logprobs=5, max_tokens=length, extra_body=bare
        )
        first = reply.choices[0].logprobs.content[0]
        values, ids = right.topk(5)
        assert [t.token for t in first.top_logprobs] == [embedded_vlm.tokenizer.decode([i]) for i in ids.tolist()]
        assert [t.logprob for t in first.top_logprobs] == pytest.approx(values.tolist(), abs=0.05)
        assert first.logprob == first.top_logprobs[0].logprob
    told = "".join(token.token for token in reply.choices[0].logprobs.content[:-1])
    assert told.strip() == reply.choices[0].message.content


def test_earlier_turns_are_passed_on(server, embedded_vlm, asked):
    query = asked[1][0]
    turns = [
        {"role": "system", "content": "Be short."},
        message_of(query.image, "What is this?"),
        {"role": "assistant", "content": "ASSISTANT: <image> a scene"},
        {"role": "user", "content": query.question},
    ]
    with server.openai() as client:
        extra = {"reasonedit": {"edits": False}}
        reply = client.chat.completions.create(model="embedded", messages=turns, extra_body=extra)
    earlier = [("system", "Be short."), ("user", "What is this?"), ("assistant", "ASSISTANT: <image> a scene")]
    prompt = embedded_vlm.prompt(query.question, None, earlier)
    assert prompt.count("<image>") == 1  # what somebody said stays text
    assert prompt.index("Be short.") < prompt.index("What is this?") < prompt.index("a scene")
    (right,) = embedded_vlm.reply(embedded_vlm.see([query.image]), [query.question], None, None, [earlier])
    assert reply.choices[0].message.content == right.text


def test_a_seed_repeats_what_chance_said(server, asked):
    query = asked[1][1]
    said = [
        server.ask(query.image, "Describe this image.", temperature=2.0, seed=seed).choices[0].message.content
        for seed in (1, 1, 2, 3)
    ]
    assert said[0] == said[1]
    assert len(set(said)) > 1


def test_an_edit_undone_and_restored_counts_at_once(server, asked, written):
    edit = asked[0][0]
    with server.http() as http:
        with_it = server.ask(edit.image, edit.question)
        assert written[0] in with_it.model_extra["reasonedit"]["edit_ids"]
        assert http.delete(f"/v1/edits/{written[0]}", params={"author": "Bob"}).json()["state"] == "undone"
        assert written[0] not in server.ask(edit.image, edit.question).model_extra["reasonedit"]["edit_ids"]
        assert http.delete(f"/v1/edits/{written[0]}").status_code == 409
        assert http.post(f"/v1/edits/{written[0]}/restore").json()["state"] == "active"
        again = server.ask(edit.image, edit.question)
        assert facts_of(again) == facts_of(with_it)
        history = http.get(f"/v1/edits/{written[0]}/history").json()["data"]
    assert [(e["op"], e["author"]) for e in history] == [("edit", "Ada"), ("undo", "Bob"), ("restore", "")]


def test_the_models_own_reasons_are_those_of_the_editor(server, local, asked):
    query = asked[1][0]
    right = local.own_reasoning(query.image, query.question)
    with server.http() as http:
        body = {"image": uri_of(query.image), "question": query.question}
        told = http.post("/v1/reasoning", json=body).json()
    assert told["answer"] == right.answer
    assert [sentence["text"] for sentence in told["sentences"]] == [s.text for s in right.sentences]
    wanted = [pytest.approx(s.confidence, abs=0.02) for s in right.sentences]
    assert [sentence["confidence"] for sentence in told["sentences"]] == wanted


def test_what_openai_offers_and_a_local_model_does_not_is_refused(server, asked):
    query = asked[1][0]
    for name, value in {
        "n": 2,
        "presence_penalty": 0.5,
        "tools": [{"type": "function", "function": {"name": "f"}}],
        "logit_bias": {"5": 1},
        "response_format": {"type": "json_object"},
    }.items():
        with pytest.raises(openai.BadRequestError) as caught:
            server.ask(query.image, query.question, **{name: value})
        assert caught.value.param == name
    with pytest.raises(openai.NotFoundError, match="embedded"):
        server.ask(query.image, query.question, model="gpt")


def test_the_codebook_is_whole_and_the_log_is_json_after_sigterm(server, asked, written, local):
    """Last: the server ends. What it is asked meanwhile is answered."""
    assert server.process is not None
    assert server.said is not None
    query = asked[1][0]
    stream = server.ask(query.image, "Describe this image.", stream=True)
    first = next(iter(stream))
    server.process.send_signal(signal.SIGTERM)
    rest = list(stream)
    assert first.choices
    assert rest[-1].choices[0].finish_reason == "stop"
    assert server.process.wait() == 0
    lines = [json.loads(line) for line in server.said.read_text().splitlines()]
    answered = [line for line in lines if line["path"] == "/v1/chat/completions" and line["status"] == 200]
    assert {"id", "time", "model", "ms", "parts_ms", "facts", "edits"} <= answered[0].keys()
    assert query.question not in server.said.read_text()  # no texts unless --log-texts
    folder = server.said.parent / "codebook"
    opened = ReasonEditor.load(folder, local.vlm)
    assert set(opened.edits) == set(written)
