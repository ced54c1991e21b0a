"""Evidence by the access pattern of the paper's authors: one full forward pass per window and sentence.

A window of which the VLM affirms the sentence takes a second one, for its likelihood.

What the benchmark compares with, and the tests' oracle: it shares nothing with the fast path but the model.
"""

from __future__ import annotations

import torch
from PIL import Image

from reasonedit.evidence import Evidence, EvidenceConfig, WindowScore, choose_windows, crop, shrink, windows_of
from reasonedit.prompts import verification_question
from reasonedit.vlm import VLM

WORDS = ("yes", "no")


def logits(vlm: VLM, image: Image.Image, text: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits and token ids of one image and one text, by the processor and a full forward pass."""
    if vlm.model.config.model_type == "instructblip":
        text = text.replace("<image>", "")  # its processor puts them itself
    inputs = vlm.processor(images=[image], text=[text], return_tensors="pt").to(vlm.device)
    inputs["pixel_values"] = inputs["pixel_values"].to(vlm.model.dtype)
    with torch.inference_mode():
        return vlm.model(**inputs).logits[0].float(), inputs["input_ids"][0]


def p_yes(vlm: VLM, image: Image.Image, sentence: str) -> float:
    """P(yes) / (P(yes) + P(no)) from the whole next-token distribution."""
    probabilities = logits(vlm, image, vlm.prompt(verification_question(sentence)))[0][-1].softmax(-1)
    masses = []
    for word in WORDS:
        variants = [lead + cased for lead in ("", " ") for cased in (word, word.capitalize(), word.upper())]
        ids = [vlm.tokenizer(v, add_special_tokens=False)["input_ids"] for v in variants]
        tokens = {i[0] for i in ids if len(i) == 1} or {i[0] for i in ids}
        masses.append(float(probabilities[sorted(tokens)].sum()))
    return masses[0] / (masses[0] + masses[1])


def nll(vlm: VLM, image: Image.Image, sentence: str) -> float:
    """Mean negative log-likelihood per token of a sentence as a description of an image."""
    prompt = vlm.prompt("Describe this image.")
    lead = "" if prompt[-1:].isspace() else " "
    count = len(vlm.tokenizer(lead + sentence, add_special_tokens=False)["input_ids"])
    scores, ids = logits(vlm, image, prompt + lead + sentence)
    return -float(scores[:-1].log_softmax(-1)[-count:].gather(1, ids[-count:, None]).mean())


def find(vlm: VLM, image: Image.Image, sentences: list[str], config: EvidenceConfig) -> list[Evidence]:
    """Evidence of sentences, one forward pass at a time."""
    image = shrink(image)
    evidences = []
    for sentence in sentences:
        evidence = Evidence(sentence)
        for box in windows_of(image.size, config.grid):
            window = crop(image, box)
            score = WindowScore(box, p_yes(vlm, window, sentence))
            if score.p_yes is not None and score.p_yes > config.p_yes:  # as the authors' code has it
                score.nll = nll(vlm, window, sentence)
            evidence.windows.append(score)
        choose_windows(evidence.windows, config.top)
        evidences.append(evidence)
    return evidences
