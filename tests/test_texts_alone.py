"""Questions without a picture: every family answers them by itself, and no fact of an edit leaks in."""

from __future__ import annotations

import math

import lightning as L
import pytest
import torch
from helpers.families import FAMILIES
from helpers.tiny import design, picture
from torch.utils.data import DataLoader

from reasonedit import Edit, EditStream, ReasonEditError, ReasonEditor, VLMModule
from reasonedit.callbacks import Codebook, EditingMetrics, Retriever
from reasonedit.callbacks.baselines import GRACE
from reasonedit.data.answers import Answers
from reasonedit.data.source import Probe
from reasonedit.types import Query
from reasonedit.vlm import Generation, load_vlm
from reasonedit.vlm.interface import VLM

QUESTIONS = ["Who wrote it?", "Which of the many rivers of this country is the longest of them all?"]


@pytest.fixture(scope="module", params=FAMILIES)
def vlm(request, tmp_path_factory):
    return load_vlm(str(FAMILIES[request.param](tmp_path_factory.mktemp(request.param))), dtype="float32")


def token_by_token(vlm, prompt, count):
    """What the model says after a text, by a full pass over all tokens for each new one."""
    model = getattr(vlm.model, "language_model", None) if "blip" in vlm.model.config.model_type else vlm.model
    bos = vlm.tokenizer.bos_token
    kind = {"add_special_tokens": not (bos and bos in prompt)}
    ids = vlm.tokenizer(prompt, return_tensors="pt", **kind)["input_ids"]
    length = ids.shape[1]
    with torch.inference_mode():
        for _ in range(count):
            last = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[:, -1].argmax(-1)
            if int(last) in vlm.end_token_ids:
                break
            ids = torch.cat([ids, last[:, None]], dim=1)
    return vlm.tokenizer.decode(ids[0, length:], skip_special_tokens=True).strip()


def test_a_text_alone_is_answered_as_by_the_model_itself(vlm):
    vlm.reply(vlm.see([picture(0)]), ["What is it?"], None, Generation(4))  # leaves nothing behind
    asked = [vlm.reply_to_texts([question], Generation(8))[0].text for question in QUESTIONS]
    for question, answer in zip(QUESTIONS, asked, strict=True):
        prompt = vlm.format_text(question)
        assert vlm.image_token not in prompt
        assert question in prompt
        assert answer == token_by_token(vlm, prompt, 8)
    assert [reply.text for reply in vlm.reply_to_texts(QUESTIONS, Generation(8))] == asked


def test_a_batch_may_mix_both_kinds(vlm):
    module = VLMModule(vlm, max_new_tokens=6)
    images = [picture(i, 64) for i in range(3)]
    batch = {"images": images, "prompts": ["What?", QUESTIONS[0], "Who?"], "text_only": [False, True, False]}
    vision = vlm.see([images[0], images[2]])
    first, second = (reply.text for reply in vlm.reply(vision, ["What?", "Who?"], None, Generation(6)))
    alone = vlm.reply_to_texts([QUESTIONS[0]], Generation(6))[0].text
    assert module.predict_step(dict(batch)) == [first, alone, second]
    assert module.predict_step(batch | {"vision": vlm.see(images)}) == [first, alone, second]
    only = {"images": images[:1], "prompts": [QUESTIONS[0]], "text_only": [True]}
    assert module.predict_step(only) == [alone]


def test_what_cannot_be_asked_is_said(tiny_vlm):
    module = VLMModule(tiny_vlm, max_new_tokens=4)
    batch = {"images": [picture(0)], "prompts": ["What?"], "text_only": ["yes"]}
    with pytest.raises(ReasonEditError, match="Sample 0 of the batch, under 'text_only', has the text 'yes'"):
        module.predict_step(batch)
    with pytest.raises(ReasonEditError, match="'What\\?' has choices and no picture"):
        module.predict_step(batch | {"text_only": [True], "choices": [["a", "b"]]})
    with pytest.raises(ReasonEditError, match="'Who\\?' has choices and no picture"):
        Query(picture(0), "Who?", ["a", "b"], text_only=True)
    with pytest.raises(ReasonEditError, match=r"The question without a picture is \d+ tokens long"):
        tiny_vlm.reply_to_texts(["word " * 3000])
    with pytest.raises(ReasonEditError, match="takes no question without a picture: leave out"):
        VLM.reply_to_texts(tiny_vlm, ["Who?"])
    with pytest.raises(ReasonEditError, match="has no image \\(None\\)"):  # a picture that is missing is no text alone
        module.predict_step({"images": [None], "prompts": ["What?"]})


def test_the_base_pass_asks_and_remembers_both_kinds(tiny_vlm):
    answers = Answers(tiny_vlm, 6)
    shown, alone = Query(picture(0), "What?", id="a"), Query.without_picture("What?", "b")
    texts, times = answers.ask([shown, alone, Query(picture(0), "What?", id="c")])
    assert texts[0] == texts[2] == tiny_vlm.answer(tiny_vlm.see([picture(0)]), ["What?"], max_new_tokens=6)[0]
    assert texts[1] == tiny_vlm.reply_to_texts(["What?"], Generation(6))[0].text != texts[0]
    assert None not in times
    assert answers.ask([alone]) == ([texts[1]], [None])
    assert answers.time([alone, shown]) > 0
    answers.close()


class Told:
    """Edits, each with one question without a picture that the model answers as it does."""

    def __init__(self, vlm, edits=3):
        self.vlm, self.edits = vlm, edits

    def candidates(self):
        for i in range(self.edits):
            yield Edit(picture(i), f"What is {i}?", f"thing {i}", [f"Number {i} is round."], id=f"e{i}")

    def probes(self, edits, right=()):
        made = []
        for edit in edits:
            said = self.vlm.reply_to_texts([edit.question], Generation(8))[0].text
            made.append(Probe("rel", Query(edit.image, edit.question, id=f"{edit.id}-rel"), edit.answer, edit.id))
            made.append(Probe("text_loc", Query.without_picture(edit.question, f"{edit.id}-t"), said, edit.id))
            made.append(Probe("text_loc", Query.without_picture("Who?", f"{edit.id}-w"), "nobody at all", edit.id))
        return made


@pytest.mark.usefixtures("hash_encoder")
def test_no_fact_leaks_into_a_text_alone(tiny_vlm):
    """The text is the edit's own question: the facts are told with the picture, and not without it."""
    seen = []

    class Spy(L.Callback):
        def on_predict_batch_end(self, trainer, pl_module, outputs, batch, batch_idx, dataloader_idx=0):
            if batch["phase"] == "probe":
                seen.extend(zip(batch["groups"], batch["prompts"], batch["retrieved"], strict=True))

    metrics = EditingMetrics()
    callbacks = [Codebook(design=design(percentile=100)), Retriever(), metrics, Spy()]
    stream = EditStream(Told(tiny_vlm), batch_size=4)
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    module = VLMModule(tiny_vlm, max_new_tokens=8)
    L.Trainer(accelerator="cpu", callbacks=callbacks, enable_checkpointing=False, **quiet).predict(module, stream)
    facts = {group: [r.facts for g, _, r in seen if g == group] for group in ("rel", "text_loc")}
    assert all(facts["rel"])
    assert facts["text_loc"] == [[], [], []]  # the three that were wrong before do not count
    [told] = {(r.nearest, r.threshold) for g, _, r in seen if g == "text_loc"}
    answer = ReasonEditor(tiny_vlm, design(percentile=100)).ask_batch([Query.without_picture("What is 0?", "t")])[0]
    assert told == (answer.nearest, answer.threshold) == (math.inf, 0.0)  # nothing is near, and the gate is not open
    assert [p for g, p, _ in seen if g == "text_loc"] == ["What is 0?", "What is 1?", "What is 2?"]
    assert metrics.results["text_loc"] == (1.0, 3)
    assert stream.base.counts["text_loc"].wrong_before == 3


@pytest.mark.usefixtures("hash_encoder")
def test_an_editor_shows_no_picture_and_no_facts_to_a_text_alone(tiny_vlm):
    editor = ReasonEditor(tiny_vlm, design(percentile=100))
    editor.edit(picture(0), QUESTIONS[0], answer="Ada", reasoning="Ada wrote it.")
    asked = [Query(picture(0), QUESTIONS[0]), Query.without_picture(QUESTIONS[0], "t"), Query(picture(1), "Who?")]
    shown = []
    see = tiny_vlm.see
    tiny_vlm.see = lambda images, *rest, **how: shown.extend(images) or see(images, *rest, **how)
    try:
        first, alone, last = editor.ask_batch(asked, max_new_tokens=8)
    finally:
        del tiny_vlm.see
    assert shown == [picture(0), picture(1)]
    assert (alone.text, alone.hits) == (tiny_vlm.reply_to_texts([QUESTIONS[0]], Generation(8))[0].text, [])
    assert [first.text, last.text] == [a.text for a in editor.ask_batch([asked[0], asked[2]], max_new_tokens=8)]
    assert first.hits
    with pytest.raises(ReasonEditError, match="has no picture"):
        editor.check_edit(Edit(picture(2), "What?", "oh", ["It is so."]), [asked[1]])


def test_an_editor_of_layers_may_change_a_text_alone(tiny_vlm):
    """Its hook runs there, too: where every activation is within its radius, nothing stays."""
    editor = GRACE(layer=-1, epsilon=1e6, steps=3)
    batches = [
        {"images": [picture(0)], "prompts": ["What?"], "edits": [Edit(picture(0), "What?", "oh", ["It is so."])]},
        {"images": [picture(1)], "prompts": ["Who?"], "edits": [None], "text_only": [True]},
    ]
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = L.Trainer(accelerator="cpu", callbacks=[editor], enable_checkpointing=False, **quiet)
    hooked = []
    editor.replace_output = lambda *args, run=editor.replace_output: hooked.append(run(*args)) or hooked[-1]
    _, answers = trainer.predict(
        VLMModule(tiny_vlm, max_new_tokens=4), DataLoader(batches, batch_size=None, collate_fn=dict)
    )
    assert answers == [answers[0]]
    assert any(output is not None for output in hooked)
