"""Train the LoRA adapter of the embedded VLM on frozen image tokens (the second of two steps).

Sequences are trees: one picture, several contexts after it, several questions after each context, every question seeing
only its own context and the picture. Positions restart at each branch, so that every question is computed exactly as if
it stood alone. Called by scripts/train_embedded_vlm; resumable.
"""

from __future__ import annotations

import argparse
import random
import time
from collections import defaultdict
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

import torch
from align_tower import SceneBank
from curriculum import group, text_group
from peft import LoraConfig, get_peft_model, set_peft_model_state_dict
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedTokenizerBase
from vlm_shapes import SHAPES, TOKENS_PER_SIDE, Shape, new_vision_part, tokens_of, trained_part
from wordings import draw_wording

from reasonedit.data.world.architecture import ANSWER, USER
from reasonedit.data.world.base_lm import load_language_model
from reasonedit.data.world.scenes import WHOLE_PICTURE, random_part

IGNORE = -100
IMAGE_TOKENS = TOKENS_PER_SIDE**2


@dataclass
class Row:
    """One packed sequence: token ids, positions, the branch each token belongs to, labels."""

    ids: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    groups: list[int] = field(default_factory=list)  # 0: prefix
    questions: list[int] = field(default_factory=list)  # 0: prefix or context
    labels: list[int] = field(default_factory=list)
    abilities: list[tuple[str, int]] = field(default_factory=list)

    def add(self, ids: list[int], start: int, group_id: int, question_id: int, labels: list[int] | None = None) -> None:
        """Append tokens that stand at positions ``start``, ``start + 1``, …"""
        self.ids += ids
        self.positions += range(start, start + len(ids))
        self.groups += [group_id] * len(ids)
        self.questions += [question_id] * len(ids)
        self.labels += labels or [IGNORE] * len(ids)


class Packer:
    """Packs groups of questions into rows of a fixed length."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, length: int, around: tuple[str, ...] = ()) -> None:
        self.length = length
        self.before, self.after = ([tokenizer.convert_tokens_to_ids(t) for t in ts] for ts in (around[:1], around[1:]))
        self.end = tokenizer.convert_tokens_to_ids("<|im_end|>")
        self.encode = lru_cache(100_000)(lambda text: tokenizer(text, add_special_tokens=False)["input_ids"])

    def pack(self, rng: random.Random, scene, whole: bool, *, with_image: bool) -> Row:  # noqa: ANN001
        """Fill one row with groups of questions until the next one would not fit."""
        row = Row()
        prefix = self.encode(USER)
        if with_image:
            prefix = [*prefix, *self.before, *[0] * IMAGE_TOKENS, *self.after, *self.encode("\n")]
        row.add(prefix, 0, 0, 0)
        group_id = question_id = 0
        while True:
            facts, asked = group(rng, scene, whole) if with_image else text_group(rng)
            lead = "" if with_image else " "  # the prefix ends in a line break, or in "User:"
            wording = draw_wording(rng)
            told = self.encode(lead + wording.tell(facts)) if facts else []
            group_id += 1
            first = True
            for task in asked:
                question = self.encode((wording.ask if facts else lead) + task.question + ANSWER)
                answer = [*self.encode(" " + task.answer), self.end]
                if len(row.ids) + (len(told) if first else 0) + len(question) + len(answer) > self.length:
                    return row
                if first:
                    row.add(told, len(prefix), group_id, 0)
                    first = False
                question_id += 1
                start = len(prefix) + len(told)
                row.add(question, start, group_id, question_id)
                row.add(answer, start + len(question), group_id, question_id, answer)
                row.abilities.append((task.ability, question_id))


def tree_mask(groups: Tensor, questions: Tensor) -> Tensor:
    """Which token sees which: itself, the prefix, and what precedes it on its own branch. (B, 1, L, L), boolean."""
    length = groups.shape[1]
    index = torch.arange(length)
    gi, gj = groups[:, :, None], groups[:, None]
    qi, qj = questions[:, :, None], questions[:, None]
    branch = (gj == 0) | ((gj == gi) & ((qj == 0) | (qj == qi)))
    return (((index[:, None] >= index[None]) & branch) | torch.eye(length, dtype=torch.bool))[:, None]


class Trainer:
    """The frozen tower and language model, and the adapter that is trained."""

    def __init__(self, shape: Shape, tower: Path, rank: int, length: int, scenes: int, seed: int) -> None:
        model, tokenizer, _ = load_language_model(torch.bfloat16)
        model.set_attn_implementation("eager")
        config = LoraConfig(
            r=rank,
            lora_alpha=2 * rank,
            target_modules=["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
        )
        self.model = get_peft_model(model, config)
        self.language = self.model.base_model.model
        self.parameters = [p for p in self.model.parameters() if p.requires_grad]
        for p in self.parameters:
            p.data = p.data.float()
        self.embedding = self.language.get_input_embeddings()
        self.vision = new_vision_part(shape).eval()
        trained_part(self.vision).load_state_dict(load_file(tower))
        self.bank = SceneBank(scenes, seed, unknown=0.1)
        self.packer = Packer(tokenizer, length, shape.around)

    def batch(self, rng: random.Random, images: int, texts: int) -> tuple[list[Row], Tensor]:
        """Packed rows, those with a picture first, and the image tokens of the latter (B, P, D)."""
        indices = [rng.randrange(len(self.bank.scenes)) for _ in range(images)]
        whole = [rng.random() < 0.72 for _ in indices]
        scenes = [self.bank.scenes[i] for i in indices]
        shown = [(WHOLE_PICTURE, s.things) if w else random_part(rng, s) for s, w in zip(scenes, whole, strict=True)]
        with torch.no_grad():
            views = self.bank.views(indices, [part for part, _ in shown])
            tokens = tokens_of(self.vision, views).to(torch.bfloat16)
        rows = [
            self.packer.pack(rng, replace(scene, things=things), part == WHOLE_PICTURE, with_image=True)
            for scene, (part, things) in zip(scenes, shown, strict=True)
        ]
        rows += [self.packer.pack(rng, self.bank.scenes[0], True, with_image=False) for _ in range(texts)]
        return rows, tokens

    def loss(self, rows: list[Row], tokens: Tensor) -> tuple[Tensor, dict[str, list[bool]]]:
        """Mean cross-entropy of the answers' tokens, and for each question whether all of them were right."""
        length = max(len(r.ids) for r in rows)

        def padded(name: str, fill: int) -> Tensor:
            return torch.tensor([[*getattr(r, name), *[fill] * (length - len(r.ids))] for r in rows])

        ids, positions, labels = padded("ids", 0), padded("positions", 0), padded("labels", IGNORE)
        groups, questions = padded("groups", -1), padded("questions", -1)
        mask = tree_mask(groups, questions)
        bias = torch.zeros(mask.shape, dtype=torch.bfloat16).masked_fill_(~mask, torch.finfo(torch.bfloat16).min)
        embeds = self.embedding(ids).detach()
        start = len(self.packer.encode(USER)) + len(self.packer.before)
        embeds[: len(tokens), start : start + IMAGE_TOKENS] = tokens
        with torch.autocast("cpu", torch.bfloat16):
            hidden = self.language.model(
                inputs_embeds=embeds, position_ids=positions, attention_mask=bias
            ).last_hidden_state
            target = labels[:, 1:]
            answers = target != IGNORE
            logits = self.language.lm_head(hidden[:, :-1][answers]).float()  # (answer tokens, vocabulary)
        loss = functional.cross_entropy(logits, target[answers])
        right = torch.ones_like(answers)
        right[answers] = logits.argmax(-1) == target[answers]
        outcome: dict[str, list[bool]] = defaultdict(list)
        for i, row in enumerate(rows):
            for ability, question in row.abilities:
                outcome[ability].append(bool(right[i][questions[i, 1:] == question].all()))
        return loss, outcome


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", choices=SHAPES, default="embedded", help="shape of the VLM")
    parser.add_argument("--out", type=Path, help="folder with tower.safetensors (default: runs/SHAPE_vlm)")
    parser.add_argument("--steps", type=int, default=2520)
    parser.add_argument("--images", type=int, default=4, help="rows with a picture in a step")
    parser.add_argument("--texts", type=int, default=1, help="rows without a picture in a step …")
    parser.add_argument("--text-steps", type=int, default=700, help="… of the first steps; later rows all have one")
    parser.add_argument("--length", type=int, default=320, help="tokens of a row")
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument(
        "--cooldown", type=float, default=0.4, help="share of the steps at the end over which the rate falls"
    )
    parser.add_argument("--scenes", type=int, default=30_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--start", type=Path, help="an adapter to begin with, such as that in the package")
    args = parser.parse_args()
    torch.manual_seed(args.seed)

    out = args.out or Path(f"runs/{args.shape}_vlm")
    tower = out / "tower.safetensors"
    trainer = Trainer(SHAPES[args.shape], tower, args.rank, args.length, args.scenes, args.seed + 2)
    optimiser = torch.optim.AdamW(trainer.parameters, lr=args.lr, weight_decay=0.0, betas=(0.9, 0.98), fused=True)
    folder, state = out / "adapter", out / "adapter.optimiser.safetensors"
    first = 0
    if args.start is not None:
        set_peft_model_state_dict(trainer.model, load_file(args.start))
    if state.is_file():  # continue where the last run stopped
        set_peft_model_state_dict(trainer.model, load_file(folder / "adapter_model.safetensors"))
        saved = load_file(state)
        first = int(saved.pop("step"))
        for i, p in enumerate(trainer.parameters):
            optimiser.state[p] = {k: saved[f"{i}.{k}"] for k in ("step", "exp_avg", "exp_avg_sq")}

    def save(step: int) -> None:
        trainer.model.save_pretrained(folder)
        tensors = {f"{i}.{k}": v for i, p in enumerate(trainer.parameters) for k, v in optimiser.state[p].items()}
        save_file({**tensors, "step": torch.tensor(step)}, state)

    run: dict[str, list[bool]] = defaultdict(list)
    started, losses, total = time.time(), [], 0
    for step in range(first, args.steps):
        rest = (args.steps - step) / (args.cooldown * args.steps)
        for g in optimiser.param_groups:
            g["lr"] = args.lr * min(1.0, (step + 1) / 30, max(0.02, rest))
        texts = args.texts if step < args.text_steps else 0
        rows = trainer.batch(random.Random(f"{args.seed}-{step}"), args.images + args.texts - texts, texts)
        loss, outcome = trainer.loss(*rows)
        loss.backward()
        nn.utils.clip_grad_norm_(trainer.parameters, 1.0)
        optimiser.step()
        optimiser.zero_grad()
        losses.append(loss.item())
        for ability, right in outcome.items():
            run[ability] += right
            total += len(right)
        if (step + 1) % 25 == 0:
            seconds = time.time() - started
            table = " ".join(f"{k}:{sum(v) / len(v):.2f}({len(v)})" for k, v in sorted(run.items()))
            print(f"{step + 1}/{args.steps} {seconds / (step + 1 - first):.2f} s/step {total} questions", end=" ")
            print(f"loss {sum(losses[-25:]) / 25:.3f} {table}", flush=True)
            run.clear()
        if (step + 1) % 100 == 0 or step + 1 == args.steps:
            save(step + 1)


if __name__ == "__main__":
    main()
