"""Questions with the answers that an editor makes the model learn."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from reasonedit.vlm import VLM, Vision
from reasonedit.vlm.prefix import append_continuations


@contextmanager
def learning() -> Iterator[None]:
    """Gradients, whatever mode the trainer runs in: under ``trainer.predict`` that is inference mode."""
    with torch.inference_mode(False), torch.enable_grad():
        yield


def ordinary(vision: Vision) -> Vision:
    """Images as tensors that gradients may pass through; what is seen in inference mode is not."""
    with torch.inference_mode(False):
        return Vision(
            [
                replace(s, features=s.features.clone(), extras=tree_map_only(Tensor, torch.clone, s.extras))
                for s in vision.images
            ]
        )


class Lesson:
    """Questions about images with their answers, ready for many passes; to be used under :func:`learning`.

    Only what lies above a layer can change while that layer learns: the blocks below it run once.

    Args:
        vlm: The VLM.
        vision: One image per question.
        prompts: The questions, as :meth:`VLM.prompt` words them.
        answers: The texts to be learnt.
        layers: Names of the layers that learn; the blocks below the first of them run once.
        ending: Whether it is to be learnt too that the answer ends there: for open questions.

    Attributes:
        entering: What enters each layer, (rows, columns, width) by its name.
        leaving: What leaves it.
        first: The column of the prompts' last tokens: there the answer begins to be predicted.
        prompted: Where the tokens of the prompts are, (rows, columns up to ``first`` included).
    """

    def __init__(
        self,
        vlm: VLM,
        vision: Vision,
        prompts: Sequence[str],
        answers: Sequence[str],
        layers: Sequence[str],
        *,
        ending: bool = False,
    ) -> None:
        self.vlm = vlm
        end = [vlm.tokenizer.eos_token_id] if ending else []
        self._ids = [vlm.continuation(p, a) + end for p, a in zip(prompts, answers, strict=True)]
        blocks = [b for b in vlm.language_layers if not any(f"{name}.".startswith(f"{b}.") for name in layers)]
        first_learning = min(vlm.language_layers.index(b) for b in _blocks_of(vlm, layers))
        below = [b for b in blocks if vlm.language_layers.index(b) < first_learning]
        self._said: dict[str, Any] = {}
        self.entering: dict[str, Tensor] = {}
        self.leaving: dict[str, Tensor] = {}
        with torch.no_grad():
            inputs, self.first = append_continuations(vlm, ordinary(vision), prompts, [ids[:-1] for ids in self._ids])
            self._inputs = {**inputs, "use_cache": False}
            assert vlm.prompt_mask is not None
            self.prompted = vlm.prompt_mask
            handles = [vlm.model.get_submodule(b).register_forward_hook(self._keep(b)) for b in below]
            handles += [vlm.model.get_submodule(name).register_forward_hook(self._record(name)) for name in layers]
            try:
                self._states = vlm.run(self._inputs).last_hidden_state
            finally:
                for handle in handles:
                    handle.remove()

    def _keep(self, name: str) -> Any:
        def hook(_module: nn.Module, _args: Any, output: Any) -> None:
            self._said[name] = output

        return hook

    def _record(self, name: str) -> Any:
        def hook(_module: nn.Module, args: Any, output: Tensor) -> None:
            self.entering[name], self.leaving[name] = args[0], output

        return hook

    def losses(self) -> Tensor:
        """Mean negative log-likelihood per token of each answer as the model is now: (rows,)."""
        self.vlm.prompt_mask = self.prompted
        with self._below_ran():
            states = self.vlm.run(self._inputs).last_hidden_state
        return torch.stack([self._loss(row, mine) for row, mine in enumerate(states)])

    def logits(self) -> Tensor:
        """Float32 logits of the tokens of all answers, one answer after the other: (tokens, vocabulary)."""
        self.vlm.prompt_mask = self.prompted
        with self._below_ran():
            states = self.vlm.run(self._inputs).last_hidden_state
        rows = [s[self.first : self.first + len(ids)] for s, ids in zip(states, self._ids, strict=True)]
        return self.vlm.head(torch.cat(rows)).float()

    def _loss(self, row: int, states: Tensor) -> Tensor:
        ids = self._ids[row]
        logits = self.vlm.head(states[self.first : self.first + len(ids)]).float()
        return nn.functional.cross_entropy(logits, torch.tensor(ids, device=logits.device))

    @contextmanager
    def _below_ran(self) -> Iterator[None]:
        """The blocks below say again what they said."""
        given: dict[str, Any] = {}
        for name, said in self._said.items():
            block = self.vlm.model.get_submodule(name)
            given[name] = block.__dict__.get("forward")
            block.forward = lambda *_args, _said=said, **_kwargs: _said
        try:
            yield
        finally:
            for name, forward in given.items():
                block = self.vlm.model.get_submodule(name)
                del block.forward
                if forward is not None:  # of a model that is spread out
                    block.forward = forward


def _blocks_of(vlm: VLM, layers: Sequence[str]) -> list[str]:
    return [b for b in vlm.language_layers if any(f"{name}.".startswith(f"{b}.") for name in layers)]
