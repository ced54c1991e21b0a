"""Questions with the answers that an editor trains the model on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from reasonedit.vlm import LocalVLM, Vision
from reasonedit.vlm.prefix import append_continuations


@contextmanager
def enable_gradients() -> Iterator[None]:
    """Gradients, whatever mode the trainer runs in: under ``trainer.predict`` that is inference mode."""
    with torch.inference_mode(False), torch.enable_grad():
        yield


def clone_vision(vision: Vision) -> Vision:
    """Images as tensors that gradients may pass through; those seen in inference mode do not let them."""
    with torch.inference_mode(False):
        return Vision(
            [
                replace(s, features=s.features.clone(), extras=tree_map_only(Tensor, torch.clone, s.extras))
                for s in vision.images
            ]
        )


def in_rows(states: Tensor, rows: int) -> Tensor:
    """States as (rows, columns, width): some MLPs, such as OPT's, take the tokens of all rows in one list."""
    return states.reshape(rows, -1, states.shape[-1]) if states.dim() == 2 else states


class TrainingExample:
    """Questions about images with their answers, ready for many passes; to be used under :func:`enable_gradients`.

    Only what lies above a layer can change while that layer is trained: the blocks below it run once.

    Args:
        vlm: The VLM.
        vision: One image per question.
        prompts: The questions, as :meth:`VLM.prompt` words them.
        answers: The texts to train on.
        layers: Names of the layers that are trained.
        ends: Whether the end of the answer is trained too: for open questions.

    Attributes:
        layer_inputs: What enters each layer, (rows, columns, width) by its name.
        layer_outputs: What leaves it.
        last_prompt_column: The column of the prompts' last tokens, whose logits predict the answer's first token.
        prompt_mask: Where the tokens of the prompts are, bool (rows, columns up to ``last_prompt_column`` included).
    """

    def __init__(
        self,
        vlm: LocalVLM,
        vision: Vision,
        prompts: Sequence[str],
        answers: Sequence[str],
        layers: Sequence[str],
        *,
        ends: bool = False,
    ) -> None:
        self.vlm = vlm
        end = [vlm.tokenizer.eos_token_id] if ends else []
        self._ids = [vlm.continuation(p, a) + end for p, a in zip(prompts, answers, strict=True)]
        self._block_outputs: dict[str, Any] = {}
        self.layer_inputs: dict[str, Tensor] = {}
        self.layer_outputs: dict[str, Tensor] = {}
        with torch.no_grad():
            continuations = [ids[:-1] for ids in self._ids]
            inputs, self.last_prompt_column = append_continuations(vlm, clone_vision(vision), prompts, continuations)
            self._inputs = {**inputs, "use_cache": False}
            assert vlm.prompt_mask is not None
            self.prompt_mask = vlm.prompt_mask
            hooks = [(block, self._record_block(block)) for block in _blocks_below(vlm, layers)]
            hooks += [(name, self._record_layer(name)) for name in layers]
            handles = [vlm.model.get_submodule(name).register_forward_hook(hook) for name, hook in hooks]
            try:
                vlm.run(self._inputs)
            finally:
                for handle in handles:
                    handle.remove()

    def _record_block(self, name: str) -> Any:
        def hook(_module: nn.Module, _args: Any, output: Any) -> None:
            self._block_outputs[name] = output

        return hook

    def _record_layer(self, name: str) -> Any:
        def hook(_module: nn.Module, args: Any, output: Tensor) -> None:
            rows = len(self.prompt_mask)
            self.layer_inputs[name], self.layer_outputs[name] = in_rows(args[0], rows), in_rows(output, rows)

        return hook

    def losses(self) -> Tensor:
        """Mean negative log-likelihood per token of each answer as the model is now: (rows,)."""
        return torch.stack(
            [
                nn.functional.cross_entropy(logits, torch.tensor(ids, device=logits.device))
                for logits, ids in zip(map(self._head, self._answer_states()), self._ids, strict=True)
            ]
        )

    def logits(self) -> Tensor:
        """Float32 logits of the tokens of all answers, one answer after the other: (tokens, vocabulary)."""
        return self._head(torch.cat(self._answer_states()))

    def _head(self, states: Tensor) -> Tensor:
        return self.vlm.head(states).float()

    def _answer_states(self) -> list[Tensor]:
        """For each answer the states that predict its tokens, (tokens, width), by a pass of the blocks above."""
        self.vlm.prompt_mask = self.prompt_mask
        with self._replay_blocks():
            states = self.vlm.run(self._inputs).last_hidden_state
        first = self.last_prompt_column
        return [row[first : first + len(ids)] for row, ids in zip(states, self._ids, strict=True)]

    @contextmanager
    def _replay_blocks(self) -> Iterator[None]:
        """Let the blocks below give again what they gave, without running."""
        forwards: dict[str, Any] = {}
        for name, output in self._block_outputs.items():
            block = self.vlm.model.get_submodule(name)
            forwards[name] = block.__dict__.get("forward")
            block.forward = lambda *_args, _output=output, **_kwargs: _output
        try:
            yield
        finally:
            for name, forward in forwards.items():
                block = self.vlm.model.get_submodule(name)
                del block.forward
                if forward is not None:  # of a model that is spread out
                    block.forward = forward


def _blocks_below(vlm: LocalVLM, layers: Sequence[str]) -> list[str]:
    """The language blocks below the first that holds one of the layers."""
    blocks = vlm.language_layers
    first = min(i for i, block in enumerate(blocks) if any(f"{name}.".startswith(f"{block}.") for name in layers))
    return list(blocks[:first])
