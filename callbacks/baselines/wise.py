"""WISE: side memories beside one layer, and routing by what they would change (Wang et al., arXiv 2405.14768)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn

from reasonedit.embedding.reference import PATTERNS, reference_images
from reasonedit.errors import InputError
from reasonedit.types import Edit, Query

from .finetune import LEARNT
from .layer import LayerEditor
from .training_example import TrainingExample, enable_gradients, in_rows
from .wise_memory import SideMemory, activation_difference, margin_loss, merge_by_ties, random_mask

_PATTERNS = 8
"""Pictures of patterns about which an edit's question is asked, where there are no other unrelated questions."""


class WISE(LayerEditor):
    """Learns edits in copies of one layer's weight, and takes a copy where it answers strongly to a question.

    The layer is what leads out of an MLP (its value matrix). An edit changes a copy only within a random part of its
    numbers, so that a shard of edits has a part of its own; full shards are merged by Ties. While an edit is learnt, a
    margin loss asks that the copy changes what leaves the layer a lot for the edit and little for unrelated questions.
    A question is answered by the side memory that would change the layer's output most, if it does so as much as for
    the weakest of its edits; else by the model's own weight. The output is taken at the question's last token.

    Of the paper the limit on the size of a change is left out, and Adam stands in the place of plain gradient descent.

    Args:
        layer: A linear layer of the language model, or the number of a block, whose last linear layer is meant.
        steps: The most steps for one edit.
        lr: The learning rate.
        ratio: Share of the numbers that a shard may change.
        shard_edits: Edits of a shard.
        shards: Number of shards that are merged.
        margin: What the edit's activation difference is to exceed, see :func:`.wise_memory.margin_loss`.
        unrelated: Questions that no edit has to do with; the edit's own question about patterns where none are given.

    Raises:
        InputError: A value is out of range.
    """

    title = "WISE"

    def __init__(
        self,
        layer: str | int = -6,
        steps: int = 70,
        lr: float = 1e-3,
        ratio: float = 0.2,
        shard_edits: int = 10,
        shards: int = 2,
        margin: float = 0.2,
        unrelated: Sequence[Query] = (),
    ) -> None:
        super().__init__(layer)
        if shard_edits < 1 or shards < 1:
            raise InputError(f"shard_edits and shards must be 1 or more, not {shard_edits} and {shards}.")
        if not 0 < ratio <= 1 or not margin >= 0:
            raise InputError(f"ratio must be above 0 and at most 1, margin 0 or more, not {ratio} and {margin}.")
        self.steps, self.lr, self.ratio, self.margin = steps, lr, ratio, margin
        self.shard_edits, self.shards, self.unrelated = shard_edits, shards, tuple(unrelated)
        self.memories: list[SideMemory] = []  # what was merged, if anything, and the shards since, the last one open
        self._merged = False  # whether the first of them was
        self._shards_begun = 0
        self._served: list[Tensor] = []  # their weights as the layer's own are typed
        self._far: Tensor | None = None  # what enters the layer at the last tokens of the unrelated questions
        self._chosen: list[int | None] = []  # for each row of a batch the memory that answers
        self._tuned: nn.Parameter | None = None  # while it is tuned

    @property
    def keys(self) -> int:
        """Number of side memories, which merging keeps small."""
        return len(self.memories)

    @property
    def main(self) -> Tensor:
        """The model's own weight, float32 (width_out, width_in)."""
        return self.linear(self.layers[0]).weight.detach().float()

    # ---- writing

    def write(self, edit: Edit, row: int, batch: dict[str, Any], pl_module: L.LightningModule) -> None:
        """Learn the edit in the open shard; merge when enough shards are full; see :meth:`Editor.write`."""
        assert self.vlm is not None  # set-up ran
        with enable_gradients():
            far = self._unrelated_inputs(edit)
            prompt = self.vlm.prompt(edit.question, edit.choices)
            vision, ends = self.vlm.see([edit.image]), not edit.choices
            example = TrainingExample(self.vlm, vision, [prompt], [edit.answer], self.layers, ends=ends)
            activation = example.layer_inputs[self.layers[0]][0, example.last_prompt_column].detach().float()
            *others, shard = memories = self._with_open_shard()
            begun = self._shards_begun + len(memories) - len(self.memories)
            mask = random_mask(shard.weight, self.ratio, begun)
            weight = self._tune(example, shard.weight, mask, activation, far)
            memories, merged = self._merge_full_shards([*others, shard.learnt(weight, activation)])
            dtype = self.linear(self.layers[0]).weight.dtype
            served = [memory.weight.to(dtype) for memory in memories]
            # All at once: a run may be cut short while an edit is learnt.
            self.memories, self._merged, self._shards_begun, self._served = memories, merged, begun, served

    def _with_open_shard(self) -> list[SideMemory]:
        """The memories, the last one a shard with room; a new shard begins as what was merged, or as the own weight."""
        has_shard = len(self.memories) > int(self._merged)
        if has_shard and len(self.memories[-1].activations) < self.shard_edits:
            return list(self.memories)
        return [*self.memories, SideMemory.of(self.memories[0].weight if self._merged else self.main.clone())]

    def _merge_full_shards(self, memories: list[SideMemory]) -> tuple[list[SideMemory], bool]:
        """Memories with their shards merged, if enough are full, and whether the first of them is a merged one."""
        shards = memories[int(self._merged) :]
        if len(shards) < self.shards or len(shards[-1].activations) < self.shard_edits:
            return memories, self._merged
        base = memories[0].weight if self._merged else self.main
        weight = base + merge_by_ties([shard.weight - base for shard in shards])
        return [SideMemory(weight, torch.cat([memory.activations for memory in memories]))], True

    def _tune(self, example: TrainingExample, weight: Tensor, mask: Tensor, activation: Tensor, far: Tensor) -> Tensor:
        """The weight after one edit is learnt, within the part that a mask shows."""
        main, parameter = self.main, nn.Parameter(weight.clone())
        adam = torch.optim.Adam([parameter], lr=self.lr)
        self._tuned = parameter
        try:
            for _ in range(self.steps):
                answer = example.losses().mean()
                edited = activation_difference(activation[None], parameter, main)[0]
                apart = margin_loss(edited, activation_difference(far, parameter, main), self.margin)
                if float(answer.detach()) < LEARNT and float(apart.detach()) == 0:
                    break
                adam.zero_grad()
                (answer + apart).backward()  # type: ignore[no-untyped-call]
                assert parameter.grad is not None
                parameter.grad *= mask
                adam.step()
        finally:
            self._tuned = None
        return parameter.detach()

    def _unrelated_inputs(self, edit: Edit) -> Tensor:
        """What enters the layer at the last tokens of unrelated questions: float32 (questions, width_in)."""
        if self._far is not None and self.unrelated:
            return self._far
        patterns = [] if self.unrelated else reference_images(PATTERNS)[:_PATTERNS]
        asked = self.unrelated or [Query(image, edit.question, edit.choices) for image in patterns]
        with torch.no_grad():
            self._far = torch.stack([self._input_of(query) for query in asked])
        return self._far

    def _input_of(self, query: Query) -> Tensor:
        vlm = self.vlm
        assert vlm is not None
        with vlm.record_inputs(self.layers) as recorded:
            vlm.run(vlm.inputs(vlm.see([query.image]), [vlm.prompt(query.question, query.choices)]))
        return in_rows(recorded[self.layers[0]], 1)[0, -1].float()

    # ---- answering

    def route(self, activations: Tensor) -> list[int | None]:
        """For each question the side memory that answers it, or ``None`` for the model's own weight.

        Args:
            activations: What enters the layer at the questions' last tokens, (N, width_in).
        """
        main = self.main
        memories = [memory.to(main.device) for memory in self.memories]
        of_memories = torch.stack([activation_difference(activations, m.weight, main) for m in memories])
        thresholds = [memory.threshold(main) for memory in memories]
        best = of_memories.max(dim=0)
        pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
        return [memory if value >= thresholds[memory] else None for memory, value in pairs]

    def replace_output(self, name: str, inputs: Tensor, output: Tensor) -> Tensor | None:
        """What the routed side memories make, in their rows; see :meth:`LayerEditor.replace_output`."""
        bias = self.linear(name).bias
        if self._tuned is not None:
            return nn.functional.linear(inputs, self._tuned.to(inputs.dtype), bias)
        if not self._served:
            return None
        mask = self.prompt_mask(inputs)
        if mask is not None:  # else it goes on with what was chosen for the prompts
            self._chosen = self.route(inputs[:, mask.shape[1] - 1])  # prompts are padded on the left
        if all(memory is None for memory in self._chosen):
            return None
        replaced = output.clone()
        for row, memory in enumerate(self._chosen):
            if memory is not None:
                replaced[row] = nn.functional.linear(inputs[row], self._served[memory].to(inputs), bias)
        return replaced
