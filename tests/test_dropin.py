"""The callbacks in front of a LightningModule that is not ours, with a real model of its own in it."""

from __future__ import annotations

import lightning as L
import pytest
import torch
from helpers.families import FAMILIES
from helpers.tiny import design, picture
from torch.utils.data import DataLoader
from transformers import AutoModelForImageTextToText, AutoProcessor

from reasonedit import Edit
from reasonedit.callbacks import Codebook, Retriever
from reasonedit.vlm import as_vlm

pytestmark = pytest.mark.usefixtures("hash_encoder")

QUESTIONS = ["What is number 0?", "What is number 1?"]


class TheirVQA(L.LightningModule):
    """Somebody else's project: it loads, words, prepares and decodes in its own way."""

    def __init__(self, folder: str, share: bool) -> None:
        super().__init__()
        self.net = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32)
        self.processor = AutoProcessor.from_pretrained(folder)
        if share:  # one line, so that the callbacks need no second copy of the model
            self.vlm = as_vlm(self.net, self.processor)

    def predict_step(self, batch, batch_idx):
        said = []
        for photo, text in zip(batch["photos"], batch["ask"], strict=True):
            content = [{"type": "image", "image": photo}, {"type": "text", "text": text}]
            inputs = self.processor.apply_chat_template(
                [{"role": "user", "content": content}],
                add_generation_prompt=True,
                tokenize=True,
                return_dict=True,
                return_tensors="pt",
            )
            made = self.net.generate(**inputs, max_new_tokens=4, do_sample=False)
            said.append(self.processor.decode(made[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))
        return {"answers": said, "n": len(said)}


def loader(edits=()):
    batch = {"photos": [picture(0, 64), picture(1, 64)], "ask": list(QUESTIONS)}
    return DataLoader([{**batch, "edits": list(edits)} if edits else batch], batch_size=None, collate_fn=dict)


def predict(module, data, *callbacks):
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    trainer = L.Trainer(accelerator="cpu", logger=False, callbacks=list(callbacks), **quiet)
    return trainer.predict(module, data)[0]["answers"]


@pytest.mark.parametrize("share", [True, False], ids=["its own model", "a copy"])
@pytest.mark.parametrize("family", ["qwen3_vl", "llava_next", "gemma3"])
def test_somebody_elses_module_is_edited_and_asked(family, share, tmp_path):
    folder = str(FAMILIES[family](tmp_path / "model"))
    module = TheirVQA(folder, share)
    model = None if share else folder
    plain = predict(module, loader())
    edits = [
        Edit.of(picture(i, 64), QUESTIONS[i], f"thing {i}", [f"Number {i} is round."]) for i in range(len(QUESTIONS))
    ]
    codebook = Codebook(tmp_path / "book", design(k=1, keys="image"), model, image_key="photos")
    assert predict(module, loader(edits), codebook) == plain  # nothing is retrieved while nothing is asked for
    assert len(codebook.memory.edits) == 2
    assert (codebook.method.vlm.model is module.net) == share

    retriever = Retriever(tmp_path / "book", image_key="photos", prompt_key="ask")
    asked = predict(module, loader(), retriever)
    facts = [f"The answer to '{question}' is thing {i}. {question}" for i, question in enumerate(QUESTIONS)]
    data = loader()
    next(iter(data))["ask"][:] = facts
    assert asked == predict(module, data)
    assert predict(module, loader()) == plain  # without the callbacks it is as it was
