"""A language model on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from reasonedit.errors import UnavailableError


class LocalWriter:
    """A text-generation model on this machine.

    Args:
        model: A causal language model of transformers.
        tokenizer: Its tokenizer; its chat template is used where it has one.
        name: Where it was loaded from.
    """

    def __init__(self, model: Any, tokenizer: Any, name: str) -> None:
        self.model, self.tokenizer, self.name = model.eval(), tokenizer, name

    @classmethod
    def from_pretrained(cls, name: str) -> LocalWriter:
        """Load one by hub id or folder, or from a GGUF file.

        Raises:
            UnavailableError: It cannot be had.
        """
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        from reasonedit.vlm import best_dtype

        path = Path(name)
        source, options = (str(path.parent), {"gguf_file": path.name}) if path.suffix == ".gguf" else (name, {})
        try:
            if options and not path.is_file():
                raise OSError(f"there is no file '{name}'")
            tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False, **options)
            model: Any = AutoModelForCausalLM.from_pretrained(
                source, dtype=best_dtype(), trust_remote_code=False, **options
            )
        except (OSError, ValueError, ImportError) as error:
            raise UnavailableError(
                f"There is no language model '{name}' ({str(error).splitlines()[0]}): give 'openai:MODEL', a hub id, a "
                "folder or a .gguf file."
            ) from error
        if torch.cuda.is_available():
            model.to("cuda")
        return cls(model, tokenizer, name)

    def write(self, prompt: str, seed: int, max_tokens: int = 128) -> str:
        """The reply to a prompt, drawn by the seed."""
        import torch

        if self.tokenizer.chat_template:
            prompt = self.tokenizer.apply_chat_template(
                [{"role": "user", "content": prompt}], add_generation_prompt=True, tokenize=False
            )
        has_start = bool(self.tokenizer.bos_token) and prompt.startswith(self.tokenizer.bos_token)
        inputs = self.tokenizer(prompt, return_tensors="pt", add_special_tokens=not has_start).to(self.model.device)
        inputs.pop("token_type_ids", None)
        pad = self.tokenizer.pad_token_id
        with torch.random.fork_rng(), torch.inference_mode():
            torch.manual_seed(seed)
            tokens = self.model.generate(
                **inputs,
                do_sample=True,
                temperature=0.7,
                max_new_tokens=max_tokens,
                pad_token_id=pad if pad is not None else self.tokenizer.eos_token_id,
            )
        return str(self.tokenizer.decode(tokens[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)).strip()
