"""What a VLM's keys and answers depend on, told apart by what depends on what.

=================== =========================================================== ============ ========================
part                made of                                                     keys         answers, evidence
=================== =========================================================== ============ ========================
``vision_weights``  all weights before the layer that is read, an adapter's too yes          yes, and all behind it
``vision_config``   what the config says of the vision part                     yes          yes
``image_processor`` its class and settings                                      yes          yes
``language_model``  weights and config of the language side                     of its layer yes
``tokenizer``       vocabulary, merges, special tokens                          of its layer yes
``prompt``          the chat template as it words a question                    of its layer yes
types, kernels      types of the weights, attention                             no           yes
``generation``      tokens that end an answer, and those that are never said    no           yes
=================== =========================================================== ============ ========================

A key of a vision-side layer outlives a new chat template or an adapter of the language model alone; answers do not.
Weights of a key count rounded to bfloat16, so that float32 and bfloat16 read each other's codebooks.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from reasonedit.weights import WeightSums, digest_of, weight_sums

from .generate import non_text_tokens
from .vision import IMAGE_FEATURES

if TYPE_CHECKING:
    from .base import VLM

_NOISE = {
    "_attn_implementation",
    "_attn_implementation_internal",
    "_commit_hash",
    "_name_or_path",
    "_processor_class",
    "architectures",
    "auto_map",
    "dtype",
    "processor_class",
    "torch_dtype",
    "transformers_version",
    "use_cache",
}
"""Values of configs that change nothing of what is computed, or that are looked at by themselves."""
_OF_IMAGES = ("vision", "image", "projector", "patch", "tile", "merge", "scale", "downsample", "pixel", "connector")


def settings_of(config: Any) -> dict[str, Any]:
    """What a config or a processor says, without what changes nothing; what is not set does not count."""
    told = config if isinstance(config, dict) else config.to_dict()

    def kept(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: kept(v) for k, v in value.items() if k not in _NOISE and v is not None}
        if isinstance(value, (list, tuple)):
            return [kept(v) for v in value]
        return value if isinstance(value, (str, int, float, bool)) else str(value)

    return dict(kept(told))


def vision_settings_of(config: Any) -> dict[str, Any]:
    """What a model's config says of its vision part."""
    told = settings_of(config)
    parts = {k: v for k, v in told.items() if isinstance(v, dict) and k != "text_config"}
    single = {k: v for k, v in told.items() if not isinstance(v, dict)}
    return {**parts, **{k: v for k, v in single.items() if any(w in k for w in _OF_IMAGES) and "token" not in k}}


def adapters_of(model: Any) -> dict[str, Any]:
    """The settings of the adapters in a model (PEFT), which its weights do not tell: scaling, which are active."""
    found: dict[str, Any] = {}
    for name, module in model.named_modules():
        active, off = getattr(module, "active_adapters", None), getattr(module, "disable_adapters", None)
        if isinstance(active, (list, tuple)) and isinstance(off, bool):
            scaling = getattr(module, "scaling", None)  # some kinds have none
            scales = sorted(scaling.items()) if isinstance(scaling, dict) else []
            found[name] = [scales, list(active), off, bool(getattr(module, "merged", False))]
    return found


def tokenizer_digest(tokenizer: Any) -> str:
    """A checksum of what a tokenizer makes of texts; not of what it was told to do with the last ones."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        told = json.loads(backend.to_str())
        told.pop("truncation", None)
        told.pop("padding", None)
    else:
        told = dict(tokenizer.get_vocab())
    special = {name: str(value) for name, value in tokenizer.special_tokens_map.items()}
    return digest_of([told, special])


def weights_before(sums: WeightSums, roots: Iterable[str], behind: Iterable[str]) -> list[str]:
    """Names of the weights under some modules, without those under others.

    Args:
        sums: The weights.
        roots: Names of modules; all weights where there are none.
        behind: Names of modules whose weights do not count.
    """
    inside, outside = tuple(f"{r}." for r in roots), tuple(f"{b}." for b in behind)
    return [n for n in sums.rounded if (not inside or n.startswith(inside)) and not n.startswith(outside)]


def key_parts(vlm: VLM, layer: str) -> dict[str, str]:
    """What the keys of a layer depend on, each part with its checksum.

    Args:
        vlm: The VLM.
        layer: One of its vision or language layers.
    """
    sums = weight_sums(vlm.model, vlm.files_digest)
    sees, reads = vlm.vision_layers, vlm.language_layers
    roots = vision_roots(vlm)
    behind = [] if layer in reads else sees[sees.index(layer) :]
    adapters = adapters_of(vlm.model)
    parts = {
        "architecture": type(vlm.model).__name__,
        "vision_weights": digest_of([sums.of(weights_before(sums, roots, behind)), _of(adapters, roots, behind)]),
        "vision_config": digest_of(vision_settings_of(vlm.model.config)),
        "image_processor": digest_of(_image_settings(vlm)),
    }
    if layer not in reads:
        return parts
    behind = [*roots, *reads[reads.index(layer) :]]
    telling = weights_before(sums, (), behind) if roots else []
    told = [sums.of(telling), _of(adapters, (), behind), settings_of(vlm.model.config)]
    return {
        **parts,
        "language_model": digest_of(told),
        "tokenizer": _tokenizer_of(vlm),
        "prompt": digest_of(vlm.question_template),
    }


def identity_of(vlm: VLM) -> str:
    """A checksum of all that a VLM's answers depend on beside the question."""
    with vlm.guard:  # while the model generates it has that answer's own config
        ends = [vlm.end_token_ids, vlm.pad_token_id, non_text_tokens(vlm)]
    config = vlm.model.config
    processor = settings_of(vlm.processor) if hasattr(vlm.processor, "to_dict") else {}
    return digest_of(
        [
            type(vlm.model).__name__,
            weight_sums(vlm.model, vlm.files_digest).all,
            adapters_of(vlm.model),
            settings_of(config),
            str(getattr(config, "_attn_implementation", "")),
            _image_settings(vlm),
            processor,
            _tokenizer_of(vlm),
            [vlm.question_template, str(vlm.processor.chat_template or "")],
            ends,
        ]
    )


def vision_roots(vlm: VLM) -> list[str]:
    """Names of the modules that hold the vision part: of them and nothing else vision-side layers are made."""
    roots = []
    for name in dict.fromkeys(n for n in vlm.vision_layers if n != IMAGE_FEATURES):
        parts = name.split(".")
        roots.append(".".join(parts[: 2 if parts[0] == "model" else 1]))
    return list(dict.fromkeys(roots))


def _image_settings(vlm: VLM) -> dict[str, Any]:
    images = getattr(vlm.processor, "image_processor", None)
    told = settings_of(images) if hasattr(images, "to_dict") else {}
    options = getattr(vlm.processor, "images_kwargs", None) or {}
    return {"class": type(images).__name__, **told, "options": settings_of(dict(options))}


def _tokenizer_of(vlm: VLM) -> str:
    other = getattr(vlm.processor, "qformer_tokenizer", None)  # of a Q-Former, which reads the texts as well
    tokenizers = [t for t in (vlm.tokenizer, other) if t is not None]
    sizes = [len(tokenizer) for tokenizer in tokenizers]
    known: tuple[list[int], str] = vlm.__dict__.get("_told_tokenizer", ([], ""))
    if known[0] != sizes:  # nothing of a tokenizer changes but that tokens are added
        with vlm.guard:
            told = [tokenizer_digest(tokenizer) for tokenizer in tokenizers]
        known = vlm.__dict__["_told_tokenizer"] = (sizes, told[0] if len(told) == 1 else digest_of(told))
    return known[1]


def _of(adapters: dict[str, Any], roots: Sequence[str], behind: Sequence[str]) -> dict[str, Any]:
    """The adapters under some modules (all where none is named) and not behind others."""
    inside, outside = tuple(f"{r}." for r in roots), tuple(f"{b}." for b in behind)
    return {n: a for n, a in adapters.items() if (not inside or n.startswith(inside)) and not n.startswith(outside)}
