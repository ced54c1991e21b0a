"""Checks of a model's files and weights; PEFT adapters."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reasonedit.errors import InputError, needed

_POINTER = b"version https://git-lfs"
_COMPUTED = re.compile(r"(?:^|\.)(?:position_ids|inv_freq|num_batches_tracked|masked_bias|attn\.bias)$")
"""Buffers of older checkpoints, which are computed anew."""
_NAMES_SHOWN = 5


def first_line(error: BaseException) -> str:
    """The first line of an error's message that is not empty."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def check_files(folder: str, name: str) -> None:
    """Refuse the folder of a model whose files are not what they are called.

    Raises:
        InputError: A file is a Git LFS pointer, or a JSON file is cut off.
    """
    if not Path(folder).is_dir():
        return
    for path in sorted(p for p in Path(folder).iterdir() if p.is_file()):
        with path.open("rb") as file:
            if file.read(len(_POINTER)) == _POINTER:
                raise InputError(
                    f"'{path.name}' of the model '{name}' is a Git LFS pointer, not the file itself: run 'git lfs "
                    "pull' in its folder, or fetch the model again."
                )
        if path.suffix == ".json":
            try:
                json.loads(path.read_text(encoding="utf-8"))
            except (ValueError, RecursionError) as error:
                raise InputError(
                    f"'{path.name}' of the model '{name}' is damaged or not complete ({first_line(error)}): fetch it "
                    "again."
                ) from error


def check_weights(loading_info: Mapping[str, Any], name: str) -> None:
    """Refuse a model whose files do not hold its weights: missing weights would be random numbers.

    Args:
        loading_info: What ``from_pretrained`` says of the loading.
        name: The model's name.

    Raises:
        InputError: Weights are missing, left over, or of another shape; names them.
    """
    for kind, why in (
        ("missing_keys", "does not hold all of its weights"),
        ("mismatched_keys", "holds weights of another shape than its config says"),
        ("unexpected_keys", "holds weights that its config has no place for"),
    ):
        keys = loading_info.get(kind) or ()
        names = sorted(str(key[0] if isinstance(key, (tuple, list)) else key) for key in keys)
        names = [n for n in names if not _COMPUTED.search(n)]
        if names:
            shown = ", ".join(names[:_NAMES_SHOWN])
            shown += f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else ""
            raise InputError(f"The model '{name}' {why}: {shown}. Fetch it again, or correct its config.json.")


@dataclass(frozen=True)
class Adapter:
    """A PEFT adapter.

    Attributes:
        folder: Its folder or hub id.
        base: The model that it is for.
        base_revision: The revision of that model that it is for; ``None`` where it names none.
        has_processor: Whether a processor is saved with it.
        hub: Arguments for the hub.
    """

    folder: str
    base: str
    base_revision: str | None
    has_processor: bool
    hub: dict[str, Any]

    def apply_to(self, model: Any) -> None:
        """Put the adapter into its model.

        Raises:
            InputError: Weights of it are missing or left over.
        """
        peft = needed("peft", "demo")
        if peft.PeftConfig.from_pretrained(self.folder, **self.hub).is_prompt_learning:
            raise InputError(_LEARNS_PROMPTS.format(name=self.folder))
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Found missing adapter keys")  # they are refused below
            wrapped = peft.PeftModel.from_pretrained(model, self.folder, autocast_adapter_dtype=False, **self.hub)
        expected = set(peft.get_peft_model_state_dict(wrapped))
        stored = set(peft.load_peft_weights(self.folder, device="cpu", **self.hub))
        check_weights({"missing_keys": expected - stored, "unexpected_keys": stored - expected}, self.folder)


_LEARNS_PROMPTS = (
    "'{name}' is an adapter that learns prompts (prompt or prefix tuning), which are put before a model's inputs and "
    "not into it: only adapters within the model, such as LoRA, are served."
)


def find_adapter(name: str, hub: dict[str, Any]) -> Adapter | None:
    """The adapter in a folder or on the hub, if there is one and no whole model.

    Raises:
        InputError: It does not say which model it is for.
    """
    from transformers.utils.hub import cached_file

    def cached(file: str) -> str | None:
        try:
            return cached_file(name, file, _raise_exceptions_for_missing_entries=False, **hub)
        except OSError:  # it cannot be reached
            return None

    config = None if cached("config.json") else cached("adapter_config.json")
    if config is None:
        return None
    settings = json.loads(Path(config).read_text(encoding="utf-8"))
    base = settings.get("base_model_name_or_path")
    if not base:
        raise InputError(
            f"The adapter '{name}' does not say which model it is for: write base_model_name_or_path into its "
            "adapter_config.json."
        )
    processor = any(cached(file) for file in ("processor_config.json", "preprocessor_config.json"))
    of_adapter = {k: v for k, v in hub.items() if k != "trust_remote_code"}
    return Adapter(name, str(base), settings.get("revision") or None, processor, of_adapter)


def unwrap_adapter(model: Any) -> Any:
    """The model of transformers in a model of PEFT; adapters such as LoRA stay in it.

    Raises:
        InputError: The adapter is not within the model.
    """
    if not hasattr(model, "get_base_model"):
        return model
    if getattr(model.active_peft_config, "is_prompt_learning", False):
        raise InputError(_LEARNS_PROMPTS.format(name=getattr(model.active_peft_config, "peft_type", "The adapter")))
    return model.get_base_model()
