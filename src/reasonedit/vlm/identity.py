"""What a VLM's keys and answers depend on, part by part.

=================== =========================================================== ============ ========================
part                made of                                                     keys         answers, evidence
=================== =========================================================== ============ ========================
``vision_weights``  all weights before the layer that is read, an adapter's too yes          yes, and all behind it
``vision_config``   what the config says of the vision part                     yes          yes
``image_processor`` its class and settings                                      yes          yes
``language_model``  weights and config of the language side                     of its layer yes
``tokenizer``       vocabulary, merges, special tokens                          of its layer yes
``prompt``          the prompt of a question, by the chat template              of its layer yes
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

from reasonedit.util.weights import WeightSums, digest_of, weight_sums

from .generate import non_text_tokens
from .vision import IMAGE_FEATURES

if TYPE_CHECKING:
    from .base import LocalVLM

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
"""Values of configs that do not change what is computed, or that are checked on their own."""
_OF_IMAGES = ("vision", "image", "projector", "patch", "tile", "merge", "scale", "downsample", "pixel", "connector")


def settings_of(config: Any) -> dict[str, Any]:
    """The values of a config or a processor that change what is computed; values that are not set do not count."""

    def clean(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: clean(v) for k, v in value.items() if k not in _NOISE and v is not None}
        if isinstance(value, (list, tuple)):
            return [clean(v) for v in value]
        return value if isinstance(value, (str, int, float, bool)) else str(value)

    return dict(clean(config if isinstance(config, dict) else config.to_dict()))


def vision_settings_of(config: Any) -> dict[str, Any]:
    """The settings of a model's vision part."""
    settings = settings_of(config)
    parts = {k: v for k, v in settings.items() if isinstance(v, dict) and k != "text_config"}
    single = {k: v for k, v in settings.items() if not isinstance(v, dict)}
    return {**parts, **{k: v for k, v in single.items() if any(w in k for w in _OF_IMAGES) and "token" not in k}}


def adapters_of(model: Any) -> dict[str, Any]:
    """The settings of the PEFT adapters in a model that its weights do not show: scaling, which are active."""
    settings: dict[str, Any] = {}
    for name, module in model.named_modules():
        active, off = getattr(module, "active_adapters", None), getattr(module, "disable_adapters", None)
        if isinstance(active, (list, tuple)) and isinstance(off, bool):
            scaling = getattr(module, "scaling", None)  # some kinds have none
            scales = sorted(scaling.items()) if isinstance(scaling, dict) else []
            settings[name] = [scales, list(active), off, bool(getattr(module, "merged", False))]
    return settings


def tokenizer_digest(tokenizer: Any) -> str:
    """A checksum of what a tokenizer makes of texts, without the padding and truncation of its last call."""
    is_plain = hasattr(tokenizer, "to_str")  # of tokenizers itself
    backend = tokenizer if is_plain else getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        content = json.loads(backend.to_str())
        content.pop("truncation", None)
        content.pop("padding", None)
    else:
        content = dict(tokenizer.get_vocab())
    named = {} if is_plain else tokenizer.special_tokens_map
    special = {name: str(value) for name, value in named.items()}
    return digest_of([content, special])


def weights_before(sums: WeightSums, roots: Iterable[str], behind: Iterable[str]) -> list[str]:
    """Names of the weights under some modules, without those under others.

    Args:
        sums: The weights.
        roots: Names of modules; without any, all weights.
        behind: Names of modules whose weights do not count.
    """
    inside, outside = tuple(f"{r}." for r in roots), tuple(f"{b}." for b in behind)
    return [n for n in sums.rounded if (not inside or n.startswith(inside)) and not n.startswith(outside)]


def key_parts(vlm: LocalVLM, layer: str) -> dict[str, str]:
    """What the keys of a layer depend on, each part with its checksum.

    Args:
        vlm: The VLM.
        layer: One of its vision or language layers.
    """
    sums = weight_sums(vlm.model, vlm.files_digest)
    vision, language = vlm.vision_layers, vlm.language_layers
    roots = vision_roots(vlm)
    behind = [] if layer in language else vision[vision.index(layer) :]
    adapters = adapters_of(vlm.model)
    vision_part = [sums.of(weights_before(sums, roots, behind)), _adapters_before(adapters, roots, behind)]
    parts = {
        "architecture": type(vlm.model).__name__,
        "vision_weights": digest_of(vision_part),
        "vision_config": digest_of(vision_settings_of(vlm.model.config)),
        "image_processor": digest_of(_image_settings(vlm)),
    }
    if layer not in language:
        return parts
    behind = [*roots, *language[language.index(layer) :]]
    weights = weights_before(sums, (), behind) if roots else []
    language_model = [sums.of(weights), _adapters_before(adapters, (), behind), settings_of(vlm.model.config)]
    return {
        **parts,
        "language_model": digest_of(language_model),
        "tokenizer": _tokenizer_of(vlm),
        "prompt": digest_of(vlm.question_template),
    }


def identity_of(vlm: LocalVLM) -> str:
    """A checksum of all that a VLM's answers depend on except the question."""
    with vlm.guard:  # while it generates, the model has another generation config
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


def vision_roots(vlm: LocalVLM) -> list[str]:
    """Names of the modules of the vision part: vision-side layers depend on no others."""
    roots = []
    for name in dict.fromkeys(n for n in vlm.vision_layers if n != IMAGE_FEATURES):
        parts = name.split(".")
        roots.append(".".join(parts[: 2 if parts[0] == "model" else 1]))
    return list(dict.fromkeys(roots))


def _image_settings(vlm: LocalVLM) -> dict[str, Any]:
    image_processor = getattr(vlm.processor, "image_processor", None)
    settings = settings_of(image_processor) if hasattr(image_processor, "to_dict") else {}
    options = getattr(vlm.processor, "images_kwargs", None) or {}
    return {"class": type(image_processor).__name__, **settings, "options": settings_of(dict(options))}


def _tokenizer_of(vlm: LocalVLM) -> str:
    qformer = getattr(vlm.processor, "qformer_tokenizer", None)  # a Q-Former reads the texts as well
    tokenizers = [t for t in (vlm.tokenizer, qformer) if t is not None]
    sizes = [len(tokenizer) for tokenizer in tokenizers]
    known: tuple[list[int], str] = vlm.__dict__.get("_tokenizer_digest", ([], ""))
    if known[0] != sizes:  # a tokenizer changes only by added tokens
        with vlm.guard:
            digests = [tokenizer_digest(tokenizer) for tokenizer in tokenizers]
        known = vlm.__dict__["_tokenizer_digest"] = (sizes, digests[0] if len(digests) == 1 else digest_of(digests))
    return known[1]


def _adapters_before(adapters: dict[str, Any], roots: Sequence[str], behind: Sequence[str]) -> dict[str, Any]:
    """The adapters under some modules, without those under others; arguments as for :func:`weights_before`."""
    inside, outside = tuple(f"{r}." for r in roots), tuple(f"{b}." for b in behind)
    return {n: a for n, a in adapters.items() if (not inside or n.startswith(inside)) and not n.startswith(outside)}
