"""How answers are made, which choice is the answer, and what becomes of numbers that are none."""

from __future__ import annotations

import json
import logging
import shutil

import lightning as L
import pytest
import torch
from helpers.families import FAMILIES
from helpers.tiny import design, picture
from torch.utils.data import DataLoader

from reasonedit import Query, ReasonEditError, ReasonEditor, VLMModule
from reasonedit.callbacks import PredictionWriter
from reasonedit.cli import main
from reasonedit.evidence import EvidenceFinder
from reasonedit.vlm import Generation, Reply, generation_of, load_vlm
from reasonedit.vlm.prefix import append_continuations
from reasonedit.vlm.reply import close_thought, split_thought

CHOICES = [
    ["a cat", "a very old wooden boat", "it"],
    ["made of stainless steel", "iron", "rubber and plastic"],
    ["kitchen", "in the living room", "at the fire station, on the second floor"],
]


@pytest.fixture(scope="module", params=["llava", "qwen3_vl", "paligemma", "instructblip"])
def vlm(request, tmp_path_factory):
    return load_vlm(str(FAMILIES[request.param](tmp_path_factory.mktemp(request.param))), dtype="float32")


@torch.inference_mode()
def logarithm_of(vlm, vision, prompt, text):
    """Log-probability of a text after a prompt, by a pass for each of its tokens."""
    total, ids = 0.0, vlm.continuation(prompt, text)
    for end in range(len(ids)):
        inputs, first = append_continuations(vlm, vision, [prompt], [ids[:end]])
        logits = vlm.head(vlm.run(inputs).last_hidden_state[:, first + end]).float()
        total += float(logits.log_softmax(-1)[0, ids[end]])
    return total


def test_the_answer_is_the_most_probable_choice(vlm):
    """The paper's rule against one pass per token; by length in characters only where that is asked for."""
    images = [picture(i, 64) for i in range(3)]
    questions = [f"What is number {i}?" for i in range(3)]
    vision = vlm.see(images)
    found = {rule: vlm.answer(vision, questions, CHOICES, choice_rule=rule) for rule in ("acc", "acc_norm")}
    assert vlm.answer(vision, questions, CHOICES) == found["acc"]
    for i, (question, options) in enumerate(zip(questions, CHOICES, strict=True)):
        prompt = vlm.prompt(question, options)
        total = [logarithm_of(vlm, vision.select([i]), prompt, o) for o in options]
        assert found["acc"][i] == max(zip(total, options, strict=True))[1]
        normed = [score / len(option) for score, option in zip(total, options, strict=True)]
        assert found["acc_norm"][i] == max(zip(normed, options, strict=True))[1]
    assert found["acc"] != found["acc_norm"]


def test_arguments_reach_generate(vlm):
    vision = vlm.see([picture(0, 64)])
    short = vlm.reply(vision, ["What is it?"], None, Generation(2))[0]
    plain = vlm.reply(vision, ["What is it?"], None, Generation(20))[0]
    assert plain.text.startswith(short.text)
    assert short.finish_reason == "length"
    stopped = vlm.answer(vision, ["What is it?"], max_new_tokens=20, min_new_tokens=20, repetition_penalty=9.0)
    assert stopped != [plain.text]
    torch.manual_seed(0)
    drawn = {vlm.answer(vision, ["What is it?"], None, 6, do_sample=True, temperature=5.0)[0] for _ in range(5)}
    assert len(drawn) > 1


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens must be 1 or more, not 0"),
        ({"max_new_tokens": 2.5}, "max_new_tokens must be 1 or more, not 2.5"),
        ({"choice_rule": "mean"}, "choice_rule must be acc or acc_norm, not 'mean'"),
        ({"max_tokens": 5}, "There is no generation argument 'max_tokens'"),
        ({"num_return_sequences": 2}, "'num_return_sequences' cannot be used here: there is one answer per question"),
        ({"min_length": 99}, "'min_length' cannot be used here: name min_new_tokens"),
        ({"encoder_repetition_penalty": 2.0}, "cannot be used here: an answer would depend on the questions beside it"),
        ({"max_time": 1.0}, "'max_time' cannot be used here: an answer would depend on the speed of the machine"),
        ({"remove_invalid_values": True}, "'remove_invalid_values' cannot be used here: numbers that are not finite"),
        ({"early_stopping": "perhaps", "num_beams": 2}, "The generation arguments cannot be used: `early_stopping`"),
        ({"temperature": 0.7}, "'temperature' counts only together with 'do_sample'"),
        ({"top_p": 0.9, "num_beams": 2}, "'top_p' counts only together with 'do_sample'"),
        ({"length_penalty": 2.0, "do_sample": True}, "'length_penalty' counts only together with 'num_beams'"),
    ],
)
def test_arguments_that_cannot_be_used_are_refused(given, said, tiny_vlm, hash_encoder):
    editor = ReasonEditor(tiny_vlm, design())
    for call in (editor.ask, editor.explain):
        with pytest.raises(ReasonEditError, match=said):
            call(picture(0), "What?", **given)
    with pytest.raises(ReasonEditError, match=said):
        editor.ask_batch([Query(picture(0), "What?")], **given)
    named = {k: v for k, v in given.items() if k in ("max_new_tokens", "choice_rule")}
    more = {k: v for k, v in given.items() if k not in named}
    for make in (ReasonEditor.from_pretrained, VLMModule):
        with pytest.raises(ReasonEditError, match=said):  # before any model is looked for
            make("nowhere/at-all", **named, generate_kwargs=more)


def test_what_asks_for_nothing_needs_nothing_beside_it():
    sampled = Generation(generate_kwargs={"do_sample": True, "temperature": 0.7, "num_beams": 1})
    assert sampled.but(do_sample=False).generate_kwargs["temperature"] == 0.7
    assert Generation(generate_kwargs={"temperature": 0, "top_p": None, "early_stopping": False}).max_new_tokens == 16


@pytest.mark.parametrize("name", ["max_new_tokens", "choice_rule", "self"])
def test_what_has_a_place_of_its_own_is_no_argument_of_generate(name, tmp_path, capsys):
    picture(0).save(tmp_path / "a.png")
    asked = ["ask", str(tmp_path / "a.png"), "What?", "--model", "nowhere/at-all", "--generate-kwargs"]
    said = "a place of its own" if name != "self" else "There is no generation argument"
    assert main([*asked, json.dumps({name: 3})]) == 1
    assert said in capsys.readouterr().err
    for make in (ReasonEditor.from_pretrained, VLMModule):
        with pytest.raises(ReasonEditError, match=said):
            make("nowhere/at-all", generate_kwargs={name: 3})


def test_what_only_generate_finds_out_is_refused_in_words(tiny_vlm, hash_encoder):
    editor = ReasonEditor(tiny_vlm, design())
    with pytest.raises(ReasonEditError, match=r"arguments do_sample=True, temperature=-1.0 cannot be used with"):
        editor.ask(picture(0), "What?", do_sample=True, temperature=-1.0)
    with pytest.raises(ReasonEditError, match="'temperature' counts only together with 'do_sample'"):
        editor.ask(picture(0), "What?", temperature=0.7)
    said = editor.ask(picture(0), "What?")
    greedy = editor.ask(picture(0), "What?", do_sample=False, temperature=0.7, top_p=None)
    assert greedy.text == said.text == editor.ask(picture(0), "What?", top_p=None).text
    for given in ({"is_assistant": True}, {"num_beams": 1.5}):
        with pytest.raises(ReasonEditError, match=f"arguments {next(iter(given))}=.* cannot be used with"):
            editor.ask(picture(0), "What?", **given)
    assert editor.ask(picture(0), "What?").text


def test_one_place_says_how_long_an_answer_is(tiny_folder, tiny_vlm, hash_encoder):
    editor = ReasonEditor.from_pretrained(str(tiny_folder), design(), dtype="float32", max_new_tokens=3)
    assert editor.generation == Generation(3)
    three, nine = editor.ask(picture(0), "What?"), editor.ask(picture(0), "What?", max_new_tokens=9)
    assert nine.text.startswith(three.text)
    assert len(nine.text) > len(three.text)
    module = VLMModule(tiny_vlm, max_new_tokens=3, choice_rule="acc_norm", generate_kwargs={"num_beams": 2})
    assert generation_of(module) == Generation(3, "acc_norm", {"num_beams": 2})
    assert generation_of(object()) == Generation()


@pytest.mark.parametrize(
    ("said", "prompt", "thought", "answer"),
    [
        ("<think>\nIt is round.\n</think>\n\nA ball.", "", "It is round.", "A ball."),
        ("It is round.</think>A ball.", "USER: What? <think>\n", "It is round.", "A ball."),
        ("<thinking>round</thinking> <answer> A ball. </answer>", "", "round", "A ball."),
        ("[THINK]round[/THINK]A ball.", "", "round", "A ball."),
        ("◁think▷round◁/think▷A ball.", "", "round", "A ball."),
        ("<think>a</think>no, <think>b</think>A ball.", "", "a</think>no, <think>b", "A ball."),
        ("<think>It is", "", "It is", ""),
        ("It is", "What? <think>", "It is", ""),
        ("<think></think>A ball.", "", "", "A ball."),
        ("A ball.", "", "", "A ball."),
        ("I think it is a ball.", "", "", "I think it is a ball."),
        ("<answer>A ball.</answer>", "", "", "A ball."),
        ("<answer>A ball", "", "", "A ball"),
        ("<answer>A ball.</answer> Or not.", "", "", "<answer>A ball.</answer> Or not."),
    ],
)
def test_a_thought_is_no_part_of_the_answer(said, prompt, thought, answer):
    assert split_thought(said, prompt) == (thought, answer)


def test_a_choice_is_scored_behind_the_thought_that_a_prompt_begins():
    assert close_thought("What?") == "What?"
    assert close_thought("What? <think>\n") == "What? <think>\n\n</think>\n\n"


def says(monkeypatch, vlm, text):
    ids = torch.tensor(vlm.tokenizer(text, add_special_tokens=False)["input_ids"] + [vlm.tokenizer.eos_token_id])
    monkeypatch.setattr(vlm, "generate", lambda vision, prompts, how: [ids[: how.max_new_tokens] for _ in prompts])


def test_the_thought_is_kept_beside_the_answer(tiny_vlm, hash_encoder, monkeypatch, tmp_path):
    import pyarrow.parquet as pq

    says(monkeypatch, tiny_vlm, "<think>It is round.</think>\nA ball.")
    editor = ReasonEditor(tiny_vlm, design(), Generation(100))
    answer = editor.ask(picture(0), "What?")
    assert (answer.text, answer.thought, answer.finish_reason) == ("A ball.", "It is round.", "stop")
    cut = editor.ask(picture(0), "What?", max_new_tokens=12)
    assert (cut.text, cut.finish_reason) == ("", "length")
    assert "It is round.".startswith(cut.thought)
    batches = [{"images": [picture(0)], "prompts": ["What?"], "targets": ["ball"], "groups": ["rel"]}]
    trainer = L.Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, callbacks=[PredictionWriter(tmp_path / "p.parquet")],
    )  # fmt: skip
    loader = DataLoader(batches, batch_size=None, collate_fn=dict)
    assert trainer.predict(VLMModule(tiny_vlm, max_new_tokens=100), loader) == [["A ball."]]
    (row,) = pq.read_table(tmp_path / "p.parquet").to_pylist()
    assert (row["answer"], row["thought"], row["finish_reason"]) == ("A ball.", "It is round.", "stop")
    assert row["right"]


def test_an_answer_between_marks_that_ends_as_it_should_is_taken_out_of_them(tiny_vlm, monkeypatch):
    vision = tiny_vlm.see([picture(0)])
    for said in ("<answer>A ball.</answer>", "<think>It is round.</think>\n<answer>A ball.</answer>"):
        says(monkeypatch, tiny_vlm, said)
        (reply,) = tiny_vlm.reply(vision, ["What?"], None, Generation(100))
        assert (reply.text, reply.finish_reason) == ("A ball.", "stop")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"eos_token_id": "</s>"}, "has '</s>' as eos_token_id, which is not a number of a token"),
        ({"eos_token_id": [[2]]}, r"has \[2\] as eos_token_id"),
        ({"suppress_tokens": "abc"}, "has suppress_tokens='abc', not numbers of tokens"),
        ({"bad_words_ids": [5]}, r"has bad_words_ids=\[5\]"),
        ({"suppress_tokens": [], "begin_suppress_tokens": [], "bad_words_ids": []}, None),
        ({"bad_words_ids": [[10**7]], "suppress_tokens": [10**7], "eos_token_id": -1}, None),
        ({"max_time": 0.0, "remove_invalid_values": True, "token_healing": True, "my_own": {"a": [1]}}, None),
    ],
)
def test_a_generation_config_of_any_content(given, said, tiny_folder, tiny_vlm, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(tiny_folder, folder)
    path = folder / "generation_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **given}))
    vlm, images = load_vlm(str(folder), dtype="float32"), [picture(0), picture(1)]
    if said is None:
        right = tiny_vlm.reply(tiny_vlm.see(images), ["What?", "Where is it?"])
        assert vlm.reply(vlm.see(images), ["What?", "Where is it?"]) == right
        assert vlm.identity
        return
    for call in (lambda: vlm.answer(vlm.see(images[:1]), ["What?"]), lambda: vlm.identity):
        with pytest.raises(ReasonEditError, match=f"{said}.*correct its generation_config.json"):
            call()


def test_answers_that_are_cut_off_are_counted(tiny_vlm, caplog):
    batches = [{"images": [picture(i)], "prompts": ["What?"]} for i in range(3)]
    trainer = L.Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False,
    )  # fmt: skip
    with caplog.at_level(logging.WARNING):
        trainer.predict(VLMModule(tiny_vlm, max_new_tokens=2), DataLoader(batches, batch_size=None, collate_fn=dict))
    assert "3 of 3 answers were cut off, by max_new_tokens=2 or by the end of the model's context: raise" in caplog.text


def test_the_command_line_takes_them(tmp_path):
    import argparse

    from reasonedit.commands.generation import add_generation, generation_from

    parser = argparse.ArgumentParser()
    add_generation(parser)

    def given(*words):
        return generation_from(parser.parse_args(words))

    assert given() == Generation()
    more = json.dumps({"num_beams": 3})
    assert given("--max-new-tokens", "5", "--choice-rule", "acc_norm", "--generate-kwargs", more) == Generation(
        5, "acc_norm", {"num_beams": 3}
    )
    for words, said in (
        ("{", "is not JSON"),
        ("[1]", "must be a JSON object"),
        ('{"no": 1}', "no generation argument"),
    ):
        with pytest.raises(ReasonEditError, match=said):
            given("--generate-kwargs", words)


# ---- numbers that are not finite


@pytest.fixture(params=[float("nan"), float("inf")], ids=["nan", "inf"])
def overflowing(request, tmp_path, tiny_folder):
    """A model whose language part makes numbers that are not finite, as float16 does on some pictures."""
    vlm = load_vlm(str(tiny_folder), dtype="float32")
    with torch.no_grad():
        vlm.model.get_submodule(f"{vlm.language_layers[-1]}.mlp.down_proj").weight.fill_(request.param)
    return vlm


def test_no_answer_is_made_of_numbers_that_are_none(overflowing, hash_encoder):
    vlm = overflowing
    vision = vlm.see([picture(0)])
    for call in (
        lambda: vlm.answer(vision, ["What?"]),
        lambda: vlm.answer(vision, ["What?"], [["a cat", "a dog"]]),
        lambda: vlm.p_yes(vision, [["Is it?"]]),
        lambda: vlm.sentence_nll(vision, "What?", [["It is round."]]),
        lambda: vlm.next_token_probabilities(vision, [vlm.prompt("What?")]),
        lambda: EvidenceFinder(vlm).find(picture(0, 64), ["It is round."]),
    ):
        with pytest.raises(ReasonEditError, match="are not finite numbers: the model overflows"):
            call()
    editor = ReasonEditor(vlm, design(keys="both"))
    with pytest.raises(ReasonEditError, match="not finite"):
        editor.edit(picture(0, 64), "What?", answer="a cat", reasoning=["It is round."])
    assert not editor.edits


def test_no_key_is_made_of_numbers_that_are_none(tiny_folder, tmp_path, hash_encoder):
    vlm = load_vlm(str(tiny_folder), dtype="float32")
    editor = ReasonEditor(vlm, design(keys="image"))
    editor.save(tmp_path / "book")
    editor.edit(picture(0, 64), "What?", answer="a cat", reasoning=["It is round."])
    with torch.no_grad():
        next(p for p in vlm.model.get_submodule(vlm.vision_layers[0]).parameters()).fill_(float("nan"))
    for call in (
        lambda: editor.ask(picture(1), "What?"),
        lambda: editor.edit(picture(1, 64), "What?", answer="a dog", reasoning=["It is flat."]),
    ):
        with pytest.raises(ReasonEditError, match="What the vision part makes of image 1 of 1: its features are not"):
            call()
    assert len(editor.edits) == 1
    assert len(ReasonEditor.load(tmp_path / "book", load_vlm(str(tiny_folder), dtype="float32")).edits) == 1


def test_reply_says_what_it_is():
    assert Reply("a") == Reply("a", "", "stop")
