"""Train the vision tower and projector of the embedded VLM (the first of two steps; no language model is run).

Every patch of a picture becomes one token. The token is trained to lie near the sum of the word embeddings of what the
patch shows (kind, colour, place), so that a pretrained language model can nearly read it from the start. Beside the
kinds that have names it learns to tell 1,000 random shapes apart, by a head that is thrown away: the towers of real VLMs
saw many more things than a benchmark names, and do not take a new thing for one of 36.
Called by scripts/train_embedded_vlm; resumable. Towers of other shapes (--shape) are trained in the same way.
"""

from __future__ import annotations

import argparse
import math
import random
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional
from vlm_shapes import SHAPES, TOKENS_PER_SIDE, new_vision_part, tokens_of, trained_part

from reasonedit.data.world.base_lm import load_language_model
from reasonedit.data.world.icons import COLOURS, RANDOM
from reasonedit.data.world.kinds import KNOWN_KINDS
from reasonedit.data.world.scenes import (
    POSITIONS,
    SIZE,
    WHOLE_PICTURE,
    Box,
    Scene,
    random_part,
    random_scene,
    shared_area,
)

BACKGROUND = len(KNOWN_KINDS)  # class of a patch that shows no object
IGNORE = -100
LEAST_SHOWN = 0.35
SHAPES_WITHOUT_NAME = 1000
THINGS = {kind: i for i, kind in enumerate([*KNOWN_KINDS, *(f"{RANDOM}{i}" for i in range(SHAPES_WITHOUT_NAME))])}
"""All that the tower learns to tell apart, by name or without."""


class SceneBank:
    """Rendered scenes kept in memory: rendering is a small part of a step, but not nothing."""

    def __init__(self, size: int, seed: int, unknown: float = 0.0, unnamed: float = 0.0) -> None:
        rng = random.Random(seed)
        self.scenes: list[Scene] = []
        for _ in range(size):  # a share of the scenes holds one thing that is no known kind
            required = [f"{RANDOM}{rng.getrandbits(32)}"] if unknown and rng.random() < unknown else []
            if unnamed and rng.random() < unnamed:  # or some of those that the tower tells apart
                required = [f"{RANDOM}{i}" for i in rng.sample(range(SHAPES_WITHOUT_NAME), rng.choice((1, 2, 3, 4)))]
            self.scenes.append(random_scene(rng, required=required))
        self.pixels = np.stack([np.asarray(scene.render()) for scene in self.scenes])  # (size, 96, 96, 3)

    def views(self, indices: list[int], parts: list[Box]) -> Tensor:
        """Cut parts out and scale them to the full size: (B, 3, 96, 96) in -1..1."""
        pixels = torch.from_numpy(self.pixels[indices]).permute(0, 3, 1, 2).float().div_(127.5).sub_(1)
        theta = torch.zeros(len(parts), 2, 3)
        for i, (left, top, right, bottom) in enumerate(parts):
            theta[i, 0, 0], theta[i, 0, 2] = (right - left) / SIZE, (left + right) / SIZE - 1
            theta[i, 1, 1], theta[i, 1, 2] = (bottom - top) / SIZE, (top + bottom) / SIZE - 1
        grid = functional.affine_grid(theta, list(pixels.shape), align_corners=False)
        return functional.grid_sample(pixels, grid, align_corners=False, padding_mode="border")


def patch_labels(scene: Scene, part: Box) -> tuple[list[int], list[int], list[int], list[int]]:
    """What each patch of a part shows: (kind, colour, place, thing), :data:`IGNORE` where there is nothing to say."""
    kinds, colours, places, things = ([fill] * TOKENS_PER_SIDE**2 for fill in (BACKGROUND, IGNORE, IGNORE, IGNORE))
    across, down = ((part[i + 2] - part[i]) / TOKENS_PER_SIDE for i in (0, 1))  # a patch in pixels of the picture
    for thing, box in zip(scene.things, scene.boxes(), strict=True):
        shown = shared_area(box, part) / ((box[2] - box[0]) * (box[3] - box[1]))
        if not shown:
            continue
        left, right = ((min(max(x, part[0]), part[2]) - part[0]) / across for x in (box[0], box[2]))
        top, bottom = ((min(max(y, part[1]), part[3]) - part[1]) / down for y in (box[1], box[3]))
        row, column = (
            min(2, int((low + high) / 2 * 3 / TOKENS_PER_SIDE)) for low, high in ((top, bottom), (left, right))
        )
        place = thing.place if part == WHOLE_PICTURE else 3 * row + column
        for i in range(math.floor(top), min(TOKENS_PER_SIDE, math.ceil(bottom))):
            for j in range(math.floor(left), min(TOKENS_PER_SIDE, math.ceil(right))):
                covered = (min(i + 1, bottom) - max(i, top)) * (min(j + 1, right) - max(j, left))
                if covered > 0.25:
                    k = i * TOKENS_PER_SIDE + j
                    if shown < LEAST_SHOWN:  # too little of it to tell what it is
                        kinds[k] = colours[k] = places[k] = things[k] = IGNORE
                        continue
                    kinds[k] = THINGS[thing.kind] if thing.kind in KNOWN_KINDS else IGNORE
                    things[k] = THINGS.get(thing.kind, IGNORE)
                    colours[k] = list(COLOURS).index(thing.colour)
                    places[k] = place
    return kinds, colours, places, things


class WordTargets:
    """Word embeddings of the language model for kinds, colours and, where tokens say them, places."""

    def __init__(self, says_places: bool, device: str = "cpu") -> None:
        model, tokenizer, _ = load_language_model(torch.float32)
        table = model.get_input_embeddings().weight.detach().to(device)

        def embed(words: list[str]) -> Tensor:
            rows = [table[tokenizer(" " + w, add_special_tokens=False)["input_ids"]].mean(0) for w in words]
            return torch.stack(rows)

        said = [[*KNOWN_KINDS, "nothing"], list(COLOURS), *([list(POSITIONS)] if says_places else [])]
        self.words = [embed(words) for words in said]
        self.mean = torch.cat(self.words).mean(0)
        self.unit = [functional.normalize(words - self.mean, dim=1) for words in self.words]
        self.scale = self.words[0].norm(dim=1).mean() ** 2

    def logits(self, tokens: Tensor) -> list[Tensor]:
        """Cosine of each token (B, P, D) with the words of each sort."""
        directions = functional.normalize(tokens.float() - self.mean, dim=-1)
        return [directions @ unit.T for unit in self.unit]

    def loss(self, tokens: Tensor, labels: list[Tensor]) -> Tensor:
        """Cross-entropy over the words (background patches weigh less) plus a regression on their sum.

        Args:
            tokens: The image tokens (B, P, D).
            labels: What each shows (B, P): kinds, colours and places; places are passed over where none are said.
        """
        kinds, others = labels[0], labels[1 : len(self.words)]
        seen = (kinds != BACKGROUND) & (kinds != IGNORE)
        weight = torch.where(seen, 1.0, 0.15) * (kinds != IGNORE)
        target = self.words[0][kinds.clamp(min=0)].clone()
        for words, label, share in zip(self.words[1:], others, (0.8, 0.6), strict=False):
            target[seen] += share * words[label[seen]]
        square = ((tokens.float() - target) ** 2).sum(-1)
        regression = (square * weight).sum() / weight.sum() / self.scale
        of_kinds, *of_others = self.logits(tokens)
        per_patch = functional.cross_entropy(20 * of_kinds.flatten(0, 1), kinds.flatten(), reduction="none")
        loss = (per_patch * weight.flatten()).sum() / weight.sum() + 0.5 * regression  # 0 where ignored
        for logits, label in zip(of_others, others, strict=True):
            loss = loss + 0.5 * functional.cross_entropy(
                20 * logits.flatten(0, 1), label.flatten(), ignore_index=IGNORE
            )
        return loss


class ThingHead(nn.Module):
    """Tells things apart by their tokens, whether or not they have names; it is thrown away after the training."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.project = nn.Linear(width, 128)
        self.things = nn.Parameter(torch.randn(len(THINGS), 128))

    def loss(self, tokens: Tensor, things: Tensor) -> Tensor:
        """Cross-entropy of the tokens (B, P, D) over all things, by their cosine; ``things`` are (B, P)."""
        seen = things != IGNORE
        directions = functional.normalize(self.project(tokens[seen].float()), dim=-1)
        return functional.cross_entropy(20 * directions @ functional.normalize(self.things, dim=-1).T, things[seen])


def batch(bank: SceneBank, rng: random.Random, size: int, full: float) -> tuple[Tensor, list[Tensor]]:
    """Views of random scenes, a share ``full`` of them whole pictures, with their patch labels; on the CPU."""
    indices = [rng.randrange(len(bank.scenes)) for _ in range(size)]
    parts = [WHOLE_PICTURE if rng.random() < full else random_part(rng, bank.scenes[i])[0] for i in indices]
    labels = [patch_labels(bank.scenes[i], part) for i, part in zip(indices, parts, strict=True)]
    return bank.views(indices, parts), [torch.tensor(column) for column in zip(*labels, strict=True)]


@torch.no_grad()
def accuracy(model: Any, words: WordTargets, bank: SceneBank, full: float) -> list[float]:
    """Share of object patches whose nearest kind, colour and, where it is said, place are right."""
    rng = random.Random(0)
    right, seen_total, device = [0] * len(words.words), 0, words.mean.device
    for _ in range(8):
        views, labels = batch(bank, rng, 128, full)
        views, labels = views.to(device), [label.to(device) for label in labels]
        seen = (labels[0] != BACKGROUND) & (labels[0] != IGNORE)
        seen_total += int(seen.sum())
        for i, logits in enumerate(words.logits(tokens_of(model, views))):
            right[i] += int((logits.argmax(-1) == labels[i])[seen].sum())
    return [r / seen_total for r in right]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", choices=SHAPES, default="embedded", help="shape of the VLM")
    parser.add_argument("--out", type=Path, help="folder of the checkpoints (default: runs/SHAPE_vlm)")
    parser.add_argument("--steps", type=int, default=3000, help="steps of 128 views")
    parser.add_argument("--scenes", type=int, default=40_000, help="rendered scenes to draw views from")
    parser.add_argument("--lr", type=float, default=1.5e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--start", type=Path, help="weights to begin with, such as those in the package")
    args = parser.parse_args()
    out = args.out or Path(f"runs/{args.shape}_vlm")
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(args.seed)

    device = "cuda" if torch.cuda.is_available() else "cpu"
    model, words = new_vision_part(SHAPES[args.shape]).to(device), WordTargets(SHAPES[args.shape].says_places, device)
    modules = trained_part(model)
    head = ThingHead(words.words[0].shape[1]).to(device)
    parameters = [*modules.parameters(), *head.parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=args.lr, weight_decay=0.03, betas=(0.9, 0.98), fused=True)
    first = 0
    if args.start is not None:
        modules.load_state_dict({k: v.float() for k, v in load_file(args.start).items()})
    weights, state = out / "tower.safetensors", out / "tower.optimiser.safetensors"
    if state.is_file():  # continue where the last run stopped
        modules.load_state_dict(load_file(weights))
        saved = load_file(state)
        head.load_state_dict({name: saved.pop(f"head.{name}") for name in head.state_dict()})
        first = int(saved.pop("step"))
        for i, p in enumerate(parameters):
            optimiser.state[p] = {k: saved[f"{i}.{k}"].to(device) for k in ("step", "exp_avg", "exp_avg_sq")}
    started = time.time()
    bank, held_out = SceneBank(args.scenes, args.seed + 1, unnamed=0.5), SceneBank(2_000, args.seed + 1_000_001)
    print(f"rendered {args.scenes} scenes in {time.time() - started:.0f} s", flush=True)

    def save(step: int) -> None:
        save_file({k: v.contiguous() for k, v in modules.state_dict().items()}, weights)
        tensors = {f"{i}.{k}": v for i, p in enumerate(parameters) for k, v in optimiser.state[p].items()}
        tensors |= {f"head.{name}": tensor for name, tensor in head.state_dict().items()}
        save_file({**tensors, "step": torch.tensor(step)}, state)

    started, losses = time.time(), []
    for step in range(first, args.steps):
        rng = random.Random(f"{args.seed}-{step}")
        rate = args.lr * min(1, (step + 1) / 200) * (0.49 * (1 + math.cos(math.pi * step / args.steps)) + 0.02)
        for group in optimiser.param_groups:
            group["lr"] = rate
        views, labels = batch(bank, rng, 128, 0.5)
        gain, shift = (
            torch.rand(len(views), n, 1, 1, generator=torch.Generator().manual_seed(step + n)) - 0.5 for n in (1, 3)
        )
        views, labels = (views * (1 + 0.15 * gain) + 0.1 * shift).to(device), [label.to(device) for label in labels]
        tokens = tokens_of(model, views)
        loss = words.loss(tokens, labels) + 0.5 * head.loss(tokens, labels[3])
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        losses.append(loss.detach())
        if (step + 1) % 100 == 0:
            speed = 128 * len(losses) / (time.time() - started)
            print(
                f"step {step + 1}/{args.steps} loss {torch.stack(losses[-100:]).mean():.3f} {speed:.0f} views/s",
                flush=True,
            )
        if (step + 1) % 500 == 0 or step + 1 == args.steps:
            save(step + 1)
            modules.eval()
            for name, full in (("whole pictures", 1.0), ("parts", 0.0)):
                shares = accuracy(model, words, held_out, full)
                named = zip(("kind", "colour", "place"), shares, strict=False)
                print(f"  held-out {name}:", *(f"{sort} {share:.3f}" for sort, share in named), flush=True)
            modules.train()


if __name__ == "__main__":
    main()
