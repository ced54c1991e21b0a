"""What is wrong with a model's files, in words; and what is wrapped around a model."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reasonedit.errors import ReasonEditError, needed

_POINTER = b"version https://git-lfs"
_COMPUTED = re.compile(r"(?:^|\.)(?:position_ids|inv_freq|num_batches_tracked|masked_bias|attn\.bias)$")
"""Buffers that older checkpoints carry, and that are computed anew."""
_SHOWN = 5


def first_line(error: BaseException) -> str:
    """The first line of an error's message that says anything."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def check_files(folder: str, name: str) -> None:
    """Refuse the folder of a model whose files are not what they are called.

    Raises:
        ReasonEditError: A file is a Git LFS pointer, or a JSON file is cut off.
    """
    if not Path(folder).is_dir():
        return
    for path in sorted(p for p in Path(folder).iterdir() if p.is_file()):
        with path.open("rb") as file:
            if file.read(len(_POINTER)) == _POINTER:
                raise ReasonEditError(
                    f"'{path.name}' of the model '{name}' is a Git LFS pointer, not the file itself: run 'git lfs "
                    "pull' in its folder, or fetch the model anew."
                )
        if path.suffix == ".json":
            try:
                json.loads(path.read_text(encoding="utf-8"))
            except (ValueError, RecursionError) as error:
                raise ReasonEditError(
                    f"'{path.name}' of the model '{name}' is damaged or not complete ({first_line(error)}): fetch it "
                    "anew."
                ) from error


def check_weights(told: Mapping[str, Any], name: str) -> None:
    """Refuse a model that is not what its files hold: what is missing would be random numbers.

    Args:
        told: What ``from_pretrained`` says of the loading.
        name: The model.

    Raises:
        ReasonEditError: Weights are missing, left over, or of another shape; names them.
    """
    for kind, why in (
        ("missing_keys", "does not hold all of its weights"),
        ("mismatched_keys", "holds weights of another shape than its config says"),
        ("unexpected_keys", "holds weights that its config has no place for"),
    ):
        found = told.get(kind) or ()
        names = sorted(str(k[0] if isinstance(k, (tuple, list)) else k) for k in found)
        names = [n for n in names if not _COMPUTED.search(n)]
        if names:
            more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
            raise ReasonEditError(
                f"The model '{name}' {why}: {', '.join(names[:_SHOWN])}{more}. Fetch it anew, or mend its config.json."
            )


@dataclass(frozen=True)
class Adapter:
    """An adapter of PEFT.

    Attributes:
        folder: Its folder or hub id.
        base: The model that it is for.
        has_processor: Whether a processor is saved with it.
        hub: Arguments for the hub.
    """

    folder: str
    base: str
    has_processor: bool
    hub: dict[str, Any]

    def apply_to(self, model: Any) -> None:
        """Put it on its model.

        Raises:
            ReasonEditError: Weights of it are missing or left over.
        """
        peft = needed("peft", "demo")
        if peft.PeftConfig.from_pretrained(self.folder, **self.hub).is_prompt_learning:
            raise ReasonEditError(_PROMPTS.format(name=self.folder))
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Found missing adapter keys")  # that is refused below
            wrapped = peft.PeftModel.from_pretrained(model, self.folder, autocast_adapter_dtype=False, **self.hub)
        wanted = set(peft.get_peft_model_state_dict(wrapped))
        there = set(peft.load_peft_weights(self.folder, device="cpu", **self.hub))
        check_weights({"missing_keys": wanted - there, "unexpected_keys": there - wanted}, self.folder)


_PROMPTS = (
    "'{name}' is an adapter that learns prompts (prompt or prefix tuning), which are put before a model's inputs and "
    "not into it: only adapters within the model, such as LoRA, are served."
)


def find_adapter(name: str, hub: dict[str, Any]) -> Adapter | None:
    """The adapter in a folder or on the hub, where there is one and no whole model.

    Raises:
        ReasonEditError: It does not say which model it is for.
    """
    from transformers.utils.hub import cached_file

    def there(file: str) -> str | None:
        try:
            return cached_file(name, file, _raise_exceptions_for_missing_entries=False, **hub)
        except OSError:  # it cannot be reached
            return None

    config = None if there("config.json") else there("adapter_config.json")
    if config is None:
        return None
    base = json.loads(Path(config).read_text(encoding="utf-8")).get("base_model_name_or_path")
    if not base:
        raise ReasonEditError(
            f"The adapter '{name}' does not say which model it is for: write base_model_name_or_path into its "
            "adapter_config.json."
        )
    processor = any(there(file) for file in ("processor_config.json", "preprocessor_config.json"))
    return Adapter(name, str(base), processor, {k: v for k, v in hub.items() if k != "trust_remote_code"})


def unwrap_adapter(model: Any) -> Any:
    """The model of transformers in what PEFT wraps around it; adapters such as LoRA stay in it.

    Raises:
        ReasonEditError: The adapter is not within the model.
    """
    if not hasattr(model, "get_base_model"):
        return model
    if getattr(model.active_peft_config, "is_prompt_learning", False):
        raise ReasonEditError(_PROMPTS.format(name=getattr(model.active_peft_config, "peft_type", "The adapter")))
    return model.get_base_model()
