"""A VLM behind an endpoint: what is sent to it, what its replies come to, and what goes wrong."""

import base64
import io
import logging
import math
from dataclasses import replace

import httpx2
import lightning as L
import openai
import pytest
import torch
from helpers.endpoint import LATE, late_answers, serving
from helpers.tiny import design, picture
from helpers.toy import SeededToys
from PIL import Image

from reasonedit import EditStream, ReasonEditor, VLMModule
from reasonedit.callbacks import Codebook, EditingMetrics, Retriever
from reasonedit.callbacks.baselines import GRACE, MEND, BalancEdit, FineTuning
from reasonedit.cli import main
from reasonedit.design import PAPER
from reasonedit.errors import InputError, NotServedError, UnavailableError
from reasonedit.evidence import EvidenceConfig
from reasonedit.experiments.experiment import Row
from reasonedit.vlm import Generation, LocalVLM, load_vlm
from reasonedit.vlm.endpoint.names import EndpointSettings
from reasonedit.vlm.endpoint.scores import closest_choice
from reasonedit.vlm.vision import ReadImages

pytestmark = pytest.mark.usefixtures("hash_encoder")

GREY = "What colour is this?"


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "secret-key")
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    late_answers(monkeypatch)


def tokens(*steps):
    """A reply with the log-probabilities of its tokens: of each step its candidates, the first one said."""
    content = [
        {
            "token": next(iter(step)),
            "bytes": None,
            "logprob": math.log(next(iter(step.values()))),
            "top_logprobs": [{"token": t, "bytes": None, "logprob": math.log(p)} for t, p in step.items()],
        }
        for step in steps
    ]
    said = "".join(next(iter(step)) for step in steps)
    return {"content": said, "choice": {"logprobs": {"content": content, "refusal": None}}}


def question_of(request):
    content = request["messages"][-1]["content"]
    return content if isinstance(content, str) else content[1]["text"]


def says(reply):
    """A server that gives log-probabilities, and replies to all but what it is asked at the start."""

    def answer(request):
        if "prompt_logprobs" in request:
            return 400, "prompt_logprobs is not supported"
        return tokens({"Grey": 0.9, "No": 0.1}) if question_of(request) == GREY else reply(request)

    return answer


def bare(reply):
    """A server that knows nothing of log-probabilities."""
    return lambda request: (400, "logprobs is not supported") if "logprobs" in request else reply(request)


def opened(server, tiny_folder, **settings):
    return load_vlm("openai:tiny", base_url=server.url, vision=str(tiny_folder), dtype="float32", **settings)


def editing(**changes):
    return replace(design(keys="grounded"), evidence=EvidenceConfig(single_window=0.0), **changes)


# ---- what is sent


def test_a_question_goes_with_its_picture_in_full(tiny_folder):
    with serving(says(lambda request: " a boat. ")) as server:
        vlm = opened(server, tiny_folder)
        (reply,) = vlm.reply(vlm.see([picture(1)]), ["What is it?"], generation=Generation(7))
        request = server.requests[-1]
    assert (reply.text, reply.thought, reply.finish_reason) == ("a boat.", "", "stop")
    assert (request["model"], request["max_tokens"], request["temperature"]) == ("tiny", 7, 0.0)
    (message,) = request["messages"]
    assert (message["role"], message["content"][1]) == ("user", {"type": "text", "text": "What is it?"})
    kind, _, data = message["content"][0]["image_url"]["url"].partition(",")
    assert kind == "data:image/png;base64"
    assert Image.open(io.BytesIO(base64.b64decode(data))).tobytes() == picture(1).tobytes()


def test_a_question_without_a_picture_goes_as_a_text(tiny_folder):
    with serving(says(lambda request: f"said: {question_of(request)}")) as server:
        vlm = opened(server, tiny_folder, concurrency=1)
        replies = vlm.reply_to_texts(["Who wrote it?", "Where<image>?"], Generation(9))
        first, second = server.requests[-2:]
        module = VLMModule(vlm)
        batch = {"images": [picture(1)] * 2, "prompts": ["What?", "Who?"], "text_only": [False, True]}
        assert module.predict_step(batch) == ["said: What?", "said: Who?"]
        kinds = [type(request["messages"][0]["content"]) for request in server.requests[-2:]]
    assert [reply.text for reply in replies] == ["said: Who wrote it?", "said: Where?"]
    assert first["messages"] == [{"role": "user", "content": "Who wrote it?"}]
    assert second["messages"] == [{"role": "user", "content": "Where?"}]
    assert (first["model"], first["max_tokens"], first["temperature"]) == ("tiny", 9, 0.0)
    assert sorted(kind.__name__ for kind in kinds) == ["list", "str"]


def test_earlier_turns_and_choices_go_with_a_question(tiny_folder):
    earlier = [("system", "Be brief."), ("user", "Hello<image>"), ("assistant", "Hi.")]
    with serving(says(lambda request: tokens({"a": 0.6, "the": 0.4}, {" cup": 1.0}))) as server:
        vlm = opened(server, tiny_folder, image_format="jpeg")
        (reply,) = vlm.reply(vlm.see([picture(1)]), ["What?"], [["a key", "a cup"]], earlier=[earlier])
        messages = server.requests[-1]["messages"]
    assert reply.text == "a cup"
    assert [m["role"] for m in messages] == ["system", "user", "assistant", "user"]
    assert messages[1]["content"][0]["image_url"]["url"].startswith("data:image/jpeg")
    assert messages[1]["content"][1]["text"] == "Hello"
    assert messages[3]["content"] == "What? Choices: a key, a cup."


def test_thoughts_and_cut_off_answers_are_told_apart(tiny_folder):
    replies = iter([
        {"content": "<think>It floats.</think> a boat"},
        {"content": "a boat", "choice": {"message": {"role": "assistant", "content": "a", "reasoning_content": "Hm."}}},
        {"content": "a very", "choice": {"finish_reason": "length"}},
        {"content": "", "choice": {"message": {"role": "assistant", "content": "a cup", "reasoning": "Hm, a cup."}}},
        {"content": [{"type": "thinking", "thinking": []}, {"type": "text", "text": "a key"}]},
    ])  # fmt: skip
    with serving(says(lambda request: next(replies))) as server:
        vlm = opened(server, tiny_folder, concurrency=1)
        got = vlm.reply(vlm.see([picture(1)] * 5), ["a?", "b?", "c?", "d?", "e?"])
    assert [(r.text, r.thought, r.finish_reason) for r in got] == [
        ("a boat", "It floats.", "stop"),
        ("a", "Hm.", "stop"),
        ("a very", "", "length"),
        ("a cup", "Hm, a cup.", "stop"),
        ("a key", "", "stop"),
    ]


def test_generation_arguments_are_passed_on_or_refused(tiny_folder):
    with serving(says(lambda request: "a boat")) as server:
        vlm = opened(server, tiny_folder)
        vlm.answer(vlm.see([picture(1)]), ["a?"], do_sample=True, temperature=0.5, top_k=3)
        assert {"temperature": 0.5, "top_k": 3}.items() <= server.requests[-1].items()
        with pytest.raises(NotServedError, match="'num_beams'"):
            vlm.answer(vlm.see([picture(1)]), ["a?"], num_beams=3)
        with pytest.raises(NotServedError, match="acc_norm"):
            vlm.reply(vlm.see([picture(1)]), ["a?"], [["a", "b"]], Generation(choice_rule="acc_norm"))


def test_as_many_are_asked_at_once_as_is_said(tiny_folder):
    import threading

    meeting = threading.Barrier(3, timeout=60)

    def reply(request):
        meeting.wait()  # comes back only where three are under way
        return "a boat"

    with serving(says(reply)) as server:
        vlm = opened(server, tiny_folder, concurrency=3)
        assert vlm.answer(vlm.see([picture(i) for i in range(6)]), ["a?"] * 6) == ["a boat"] * 6


# ---- scores


def test_p_yes_is_that_of_the_first_token(tiny_folder):
    shares = {"a": {"Yes": 0.3, " yes": 0.2, "YES": 0.1, "no": 0.2}, "b": {"No": 0.9, "A": 0.01}}
    with serving(says(lambda request: tokens(shares[question_of(request)]))) as server:
        vlm = opened(server, tiny_folder)
        got = vlm.p_yes(vlm.read(vlm.see([picture(1), picture(2)])), [["a", "b"], ["b"]])
        assert (server.requests[-1]["max_tokens"], server.requests[-1]["top_logprobs"]) == (1, 20)
    assert [len(of_image) for of_image in got] == [2, 1]
    assert float(got[0][0]) == pytest.approx(0.6 / 0.8)
    assert float(got[0][1]) == pytest.approx(0.01 / 0.91)  # yes is at most as likely as the least of those named


def test_a_model_that_says_neither_is_asked_for_yes_or_no(tiny_folder):
    def reply(request):
        return "Yes." if question_of(request).endswith("Answer yes or no.") else tokens({"The": 0.9, "A": 0.1})

    with serving(says(reply)) as server:
        vlm = opened(server, tiny_folder)
        assert vlm.p_yes(vlm.see([picture(1)]), [["Is it?"]])[0].tolist() == [1.0]


def test_what_is_neither_yes_nor_no_counts_as_no_and_that_is_said(tiny_folder, caplog):
    with serving(bare(lambda request: "I cannot tell.")) as server, caplog.at_level(logging.WARNING):
        vlm = opened(server, tiny_folder)
        caplog.clear()
        assert vlm.p_yes(vlm.see([picture(1)]), [["Is it?", "Does it?"]])[0].tolist() == [0.0, 0.0]
        [record] = caplog.records  # once
        assert "answered 'I cannot tell.…', which is neither yes nor no: it counts as no." in record.message


@pytest.mark.parametrize(
    ("said", "choices", "taken", "named"),
    [
        ("The answer is B.", ["A", "B", "C", "D"], "B", True),
        ("A nice cup: C", ["A", "B", "C"], None, False),  # A may be an article
        ("I do not know.", ["yes", "no", "unknown"], None, False),
        ("There are 12 cups.", ["1", "2", "12"], "12", True),
        ("There are 12 cups.", ["1", "2", "3"], None, False),
        ("Either red or blue.", ["red", "tan"], "red", True),
        ("Perhaps key, perhaps cup", ["key", "cup"], "key", False),
        ("It is the left one, not the right.", ["left", "right"], "left", False),  # however long its name is
        ("It is dark red.", ["red", "dark red"], "dark red", True),
        ("Dark red, or red?", ["red", "dark red"], "dark red", False),
        ("It is C++.", ["C", "C++"], "C++", True),
    ],
)
def test_a_choice_is_named_by_words_of_its_own(said, choices, taken, named):
    number, found = closest_choice(choices, said)
    assert found is named
    assert taken is None or choices[number] == taken


def test_yes_or_no_is_asked_for_without_the_edits_of_the_server_behind(tiny_folder):
    with serving(bare(lambda request: "Yes.")) as server:
        vlm = opened(server, tiny_folder)
        vlm.served = replace(vlm.served, choices=True)
        assert vlm.p_yes(vlm.see([picture(1)]), [["Is it?"]])[0].tolist() == [1.0]
        assert server.requests[-1]["reasonedit"] == {"edits": False}


@pytest.mark.parametrize("status", [401, 403, 404, 405, 500, 501])
def test_an_endpoint_without_a_list_of_models_serves_all_the_same(tiny_folder, monkeypatch, status):
    def refuse(*_, **__):
        reply = httpx2.Response(status, request=httpx2.Request("GET", "http://127.0.0.1/models"))
        raise openai.APIStatusError("no", response=reply, body=None)

    with serving(says(lambda request: "a boat")) as server:
        vlm = opened(server, tiny_folder)
        monkeypatch.setattr(type(vlm.connection.client.models), "list", refuse)
        assert vlm.connection.about_model() == {}


def test_an_answer_that_names_no_choice_is_said_to(tiny_folder, caplog):
    with serving(bare(lambda request: "I am not sure, cup?")) as server, caplog.at_level(logging.WARNING):
        vlm = opened(server, tiny_folder)
        caplog.clear()
        assert vlm.answer(vlm.see([picture(1)] * 2), ["What?"] * 2, [["a key", "a cup"]] * 2) == ["a cup"] * 2
        assert ["names none of its choices alone: 'a cup' is taken" in r.message for r in caplog.records] == [
            True
        ]  # once


def test_without_log_probabilities_what_is_said_counts(tiny_folder, caplog):
    def reply(request):
        asked = question_of(request)
        return {"Is it? Answer yes or no.": "**Yes**, it is.", "Was it? Answer yes or no.": "Perhaps."}.get(
            asked, "cup!"
        )

    with serving(bare(reply)) as server, caplog.at_level(logging.WARNING):
        vlm = opened(server, tiny_folder)
        (line,) = [r.message for r in caplog.records if "The endpoint" in r.message]
        assert "no log-probabilities" in line
        assert "no likelihoods" in line
        assert vlm.p_yes(vlm.see([picture(1)]), [["Is it?", "Was it?"]])[0].tolist() == [1.0, 0.0]
        assert vlm.answer(vlm.see([picture(1)]), ["What?"], [["a key", "a cup"]]) == ["a cup"]
        assert all("logprobs" not in request for request in server.requests[-3:])


def test_parameters_that_a_model_does_not_take_are_left_out(tiny_folder):
    def reply(request):
        if "max_tokens" in request:
            return 400, "Use 'max_completion_tokens' instead."
        if "temperature" in request:
            return 400, "Unsupported value: 'temperature'."
        return (400, "top_logprobs must be at most 5") if request.get("top_logprobs", 0) > 5 else tokens({"Yes": 1.0})

    with serving(reply) as server:
        vlm = opened(server, tiny_folder)
        assert vlm.answer(vlm.see([picture(1)]), ["What?"]) == ["Yes"]
        assert "max_completion_tokens" in server.requests[-1]
    assert (vlm.served.candidates, vlm.served.takes_temperature, vlm.served.context_length) == (5, False, 2048)


def test_a_model_of_which_log_probabilities_are_forbidden_is_asked_without(tiny_folder):
    def reply(request):
        return (403, "You are not allowed to request logprobs from this model.") if "logprobs" in request else "Yes."

    with serving(reply) as server:
        vlm = opened(server, tiny_folder)
        assert vlm.p_yes(vlm.see([picture(1)]), [["Is it?"]])[0].tolist() == [1.0]
    assert vlm.served.candidates == 0


def test_likelihoods_are_those_of_the_prompts_last_tokens(tiny_folder):
    """As vLLM says them: for each token of the prompt its own log-probability."""
    pieces = {"It is red.": [("It", -1.0), (" is", -2.0), (" red.", -4.5)], "a key": [(" a", -1.0), (" key", -3.0)]}
    pieces |= {"a cup": [(" a", -1.0), (" cup", -2.0)], "Grey": [("Gr", -1.0), ("ey", -1.0)]}

    def reply(request):
        last = request["messages"][-1]
        if last["role"] != "assistant":
            return tokens({"Grey": 1.0})
        assert request["continue_final_message"] is True
        assert request["add_generation_prompt"] is False
        said = [("<user>", -9.0), *pieces[last["content"]]]
        each = [{str(i): {"logprob": p, "rank": 1, "decoded_token": t}} for i, (t, p) in enumerate(said)]
        return {"content": "", "body": {"prompt_logprobs": [None, *each]}}

    with serving(reply) as server:
        vlm = opened(server, tiny_folder)
        vlm.check_likelihoods()
        assert vlm.sentence_nll(vlm.see([picture(1)]), "Describe.", [["It is red."]])[0].tolist() == [2.5]
        rules = {"acc": "a cup", "acc_norm": "a cup"}
        for rule, right in rules.items():
            got = vlm.reply(vlm.see([picture(1)]), ["?"], [["a key", "a cup"]], Generation(choice_rule=rule))
            assert got[0].text == right


# ---- what goes wrong


@pytest.mark.parametrize(
    ("behaviour", "kind", "message"),
    [
        (429, UnavailableError, "answered 429 even when asked again: this is a 429"),
        (500, UnavailableError, "answered 500 even when asked again"),
        (401, UnavailableError, "refuses the key in OPENAI_API_KEY"),
        (404, UnavailableError, "does not serve 'tiny'"),
        (LATE, UnavailableError, r"cannot be reached or does not reply \(ReadTimeout\)"),
        ("no json", UnavailableError, "did not answer with (a chat completion|JSON)"),
        ('{"object": "error"}', UnavailableError, "did not answer with a chat completion"),
        (b'{"id": "x", "choices": [', UnavailableError, "cannot be reached or does not reply"),
    ],
    ids=["429", "500", "401", "404", "slow", "no JSON", "another form", "cut off"],
)
def test_each_failure_is_one_clear_error(tiny_folder, behaviour, kind, message):
    broken = []
    with serving(says(lambda request: "a boat"), lambda n: behaviour if broken else None) as server:
        vlm = opened(server, tiny_folder, retries=1)
        broken.append(True)
        with pytest.raises(kind, match=message) as caught:
            vlm.answer(vlm.see([picture(1)]), ["What?"])
        assert "secret-key" not in str(caught.value)
        broken.clear()
        assert vlm.answer(vlm.see([picture(1)]), ["What?"]) == ["a boat"]  # it can go on


def test_what_passes_is_waited_for(tiny_folder):
    failures = []
    with serving(says(lambda request: "a boat"), lambda n: failures.pop() if failures else None) as server:
        vlm = opened(server, tiny_folder, retries=3)
        failures += [429, 500, LATE]
        assert vlm.answer(vlm.see([picture(1)]), ["What?"]) == ["a boat"]


def test_a_question_that_is_too_long_is_the_users(tiny_folder):
    with serving(says(lambda request: (400, "This model's maximum context length is 5 tokens."))) as server:
        vlm = opened(server, tiny_folder)
        with pytest.raises(InputError, match="longer than 'tiny' reads"):
            vlm.answer(vlm.see([picture(1)]), ["What?"])
        assert vlm.has_room(vlm.see([picture(1)]).images[0], "short")
        assert not vlm.has_room(vlm.see([picture(1)]).images[0], "long " * 2000)


def test_nothing_is_asked_beyond_the_limit(tiny_folder):
    used = {"usage": {"prompt_tokens": 30, "completion_tokens": 10, "total_tokens": 40}}
    with serving(lambda request: {**tokens({"Grey": 1.0}), "body": used}) as server:
        vlm = opened(server, tiny_folder, max_requests=4)
        assert vlm.connection.requests == 2  # what was found out at the start
        vlm.answer(vlm.see([picture(1)] * 2), ["What?"] * 2)
        with pytest.raises(UnavailableError, match=r"max_requests = 4\): raise it"):
            vlm.answer(vlm.see([picture(1)]), ["What?"])
        assert len(server.requests) == 4
        vlm = opened(server, tiny_folder, max_total_tokens=100)
        vlm.answer(vlm.see([picture(1)]), ["What?"])
        assert vlm.connection.tokens == 120
        with pytest.raises(UnavailableError, match="max_total_tokens = 100"):
            vlm.answer(vlm.see([picture(1)]), ["What?"])
    with serving(says(lambda request: "a")) as server, pytest.raises(UnavailableError, match="set max_requests"):
        opened(server, tiny_folder, max_total_tokens=100)


def test_a_server_that_is_down_and_a_key_that_is_missing_are_told_at_the_start(tiny_folder, monkeypatch):
    with pytest.raises(UnavailableError, match=r"127\.0\.0\.1:9/v1/ cannot be reached.*base_url"):
        load_vlm("openai:tiny", base_url="http://127.0.0.1:9/v1", vision=str(tiny_folder), retries=0)
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(InputError, match="OPENAI_API_KEY is not set"):
        load_vlm("openai:tiny", base_url="http://127.0.0.1:9/v1", vision=str(tiny_folder))


# ---- names


def test_a_name_holds_what_finds_it_again(tiny_folder, monkeypatch):
    monkeypatch.chdir(tiny_folder.parent)
    made = EndpointSettings.of("openai:a/b", base_url="http://host:1/v1", vision=tiny_folder.name, timeout=3)
    assert made.lasting_name == f"openai:a/b?base_url=http://host:1/v1&vision={tiny_folder}"
    assert EndpointSettings.of(made.lasting_name) == replace(made, timeout=120.0)
    assert EndpointSettings.of("openai:a", trust_remote_code=False).lasting_name == "openai:a"
    assert EndpointSettings.of("openai:a?timeout=5&concurrency=2", concurrency=3).concurrency == 3


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("openai:", {}, "names no model"),
        ("openai:a", {"api_key": "x"}, "read from OPENAI_API_KEY"),
        ("openai:a", {"base_url": "http://me:pw@host/v1"}, "would store"),
        ("openai:a", {"device_map": "cuda"}, "no setting 'device_map'"),
        ("openai:a", {"timeout": "long"}, "must be float"),
        ("openai:a?retries=few", {}, "must be a number"),
        ("openai:a", {"concurrency": 0}, "1 or more"),
        ("openai:a", {"image_format": "gif"}, "png or jpeg"),
    ],
    ids=str,
)
def test_what_no_endpoint_has_is_refused(name, settings, message):
    with pytest.raises(InputError, match=message):
        load_vlm(name, **settings)


# ---- editors


def yes_of_red(request):
    return tokens({"Yes": 0.9, "No": 0.1}) if "red" in question_of(request) else "a boat"


def test_a_codebook_finds_its_vlm_again_and_holds_no_key(tiny_folder, tiny_vlm, tmp_path, monkeypatch):
    with serving(says(yes_of_red)) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        editor = ReasonEditor.from_pretrained("openai:tiny", editing(), vision=str(tiny_folder), dtype="float32")
        editor.edit(picture(1), "What is it?", answer="a boat", reasoning="It is red.")
        editor.save(tmp_path / "book")
        again = ReasonEditor.load(tmp_path / "book", dtype="float32")
        assert again.vlm.name == f"openai:tiny?vision={tiny_folder}"
        answer = again.ask(picture(1), "What is it?")
        assert [hit.fact for hit in answer.hits] == [hit.fact for hit in editor.ask(picture(1), "What is it?").hits]
        assert question_of(server.requests[-1]).endswith("What is it?")
        assert "red" in question_of(server.requests[-1])
    local = ReasonEditor.load(tmp_path / "book", vlm=tiny_vlm)  # its keys depend on the vision part alone
    assert len(local.memory.edits) == 1
    assert not any(b"secret-key" in file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())


def test_designs_and_editors_that_take_more_are_refused_in_a_sentence(tiny_folder):
    with serving(says(yes_of_red)) as server:
        vlm = opened(server, tiny_folder)
        module = VLMModule(vlm)
        with pytest.raises(NotServedError, match="prompt_logprobs"):
            ReasonEditor(vlm, replace(PAPER, embedding=design().embedding))
        with pytest.raises(NotServedError, match="language layers"):
            vlm.language_states(vlm.see([picture(1)]), ["a"], "x")
        with pytest.raises(InputError, match="has no layer 'model"):
            vlm.check_layer("model.language_model.layers.0")
        assert not isinstance(vlm, LocalVLM)
        stream = EditStream(SeededToys(edits=2), batch_size=2)
        for editor in (GRACE(), FineTuning(), BalancEdit(), MEND("nowhere")):
            trainer = L.Trainer(callbacks=[editor], logger=False, enable_progress_bar=False)
            with pytest.raises(NotServedError, match="keeps behind its endpoint"):
                trainer.predict(module, datamodule=stream)


def test_a_stream_runs_in_a_trainer_and_its_metrics_come_out(tiny_folder):
    with serving(says(yes_of_red)) as server:
        module = VLMModule(opened(server, tiny_folder))
        metrics, codebook = EditingMetrics(), Codebook(design=editing())
        trainer = L.Trainer(
            callbacks=[codebook, Retriever(), metrics], logger=False, enable_progress_bar=False, accelerator="cpu"
        )
        trainer.predict(module, datamodule=EditStream(SeededToys(edits=2), batch_size=2))
    assert codebook.edits == 2
    assert "rel" in metrics.results


def test_an_experiment_leaves_out_what_takes_weights_and_names_it(tiny_folder, tmp_path, monkeypatch, capsys):
    from reasonedit.experiments import EXPERIMENTS
    from reasonedit.experiments.making import editing as by_design

    plan = EXPERIMENTS["main"]
    wanted = ("none", "lora", "serac", "wise", "grace", "rag", "reasonedit-paper")
    rows = [row for row in plan.rows if row.name in wanted]
    ours = Row("reasonedit", "ReasonEdit", by_design(editing()))
    layer = next(row for row in EXPERIMENTS["embedding"].rows if row.name == "language")
    monkeypatch.setitem(EXPERIMENTS, "main", replace(plan, rows=(*rows, layer, ours)))
    config = tmp_path / "config.yaml"
    with serving(says(yes_of_red)) as server:
        config.write_text(
            "model:\n  class_path: reasonedit.VLMModule\n  init_args:\n    model: openai:tiny\n    dtype: float32\n"
            f"    model_kwargs: {{base_url: '{server.url}', vision: '{tiny_folder}'}}\n"
            "data:\n  class_path: reasonedit.EditStream\n  init_args:\n    batch_size: 4\n"
            "    source: {class_path: helpers.toy.SeededToys, init_args: {edits: 2}}\n"
        )
        asked = ["experiment", "main", "--config", str(config), "--seeds", "0", "--edits", "2"]
        assert main([*asked, "--out", str(tmp_path / "results")]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert said.count("is left out:") == 6
    for title in ("LoRA", "SERAC", "WISE", "GRACE", "ReasonEdit, the paper's design", layer.title):
        assert f"{title} is left out:" in said
    cells = sorted(path.name for path in (tmp_path / "results" / "main" / "cells").glob("*.parquet"))
    assert cells == ["none-0.parquet", "rag-0.parquet", "reasonedit-0.parquet"]


def test_the_commands_take_the_name(tiny_folder, tmp_path, monkeypatch, capsys):
    import json

    (tmp_path / "pictures").mkdir()
    for number in range(18):
        picture(100 + number).save(tmp_path / "pictures" / f"{number:02}.png")
    picture(0).save(tmp_path / "asked.png")
    made = editing()
    made = replace(made, embedding=replace(made.embedding, transform="whitened"))
    (tmp_path / "design.json").write_text(json.dumps(made.to_dict()))
    with serving(says(yes_of_red)) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        name = ["--model", f"openai:tiny?vision={tiny_folder}", "--dtype", "float32"]
        given = [*name, "--design", str(tmp_path / "design.json")]
        pictures = ["--pictures", str(tmp_path / "pictures")]
        assert main(["calibrate", *given, *pictures, "--output", str(tmp_path / "mine")]) == 0
        edit = [str(tmp_path / "asked.png"), "What is it?", "--answer", "a boat", "--reasoning", "It is red."]
        book = ["--codebook", str(tmp_path / "book")]
        assert main(["edit", *edit, *book, *given, "--calibration", str(tmp_path / "mine")]) == 0
        capsys.readouterr()
        assert main(["ask", *edit[:2], *book, "--dtype", "float32"]) == 0
        assert "a boat" in capsys.readouterr().out


def test_readers_of_images_are_what_every_vlm_takes(tiny_vlm):
    """What one VLM has read is no other's: a local one reads anew what an endpoint only holds."""
    vision = tiny_vlm.see([picture(1)])
    held = ReadImages(object(), vision)
    assert torch.equal(tiny_vlm.p_yes(held, [["Is it?"]])[0], tiny_vlm.p_yes(vision, [["Is it?"]])[0])
    held.narrow([0])
    assert len(held) == 1
