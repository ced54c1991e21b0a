"""The card of a codebook on the Hugging Face Hub: what it holds, whose it is, for which model, and how to use it."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

from reasonedit.safe_text import to_safe_text

from .disk.manifest import Manifest
from .stored_edit import StoredEdit

_SHOWN = 3
"""So many edits are shown in full, the newest."""

_UNLICENSED = (
    "Nobody has stated a licence. Ask who made the codebook before you use it for more than reading, and think of the "
    "rights to its pictures."
)


def write_card(
    manifest: Manifest, edits: Mapping[str, StoredEdit], undone: Collection[StoredEdit], repo_id: str, licence: str = ""
) -> str:
    """The card, in Markdown with a head in YAML, as the Hub reads it.

    Args:
        manifest: The codebook's manifest.
        edits: The edits that count, by id, in their order.
        undone: Edits that were undone: they are uploaded too.
        repo_id: Its name on the Hub.
        licence: The licence, by its name on the Hub (``cc-by-4.0``).

    Returns:
        The text. What people wrote into the codebook stands in it as plain text, never as Markdown.
    """
    model = str(manifest.config.get("model", ""))
    kept = list(edits.values())
    parts = [
        _head(model, licence),
        "# A codebook of ReasonEdit\n",
        f"{_counted(len(kept), 'correction')} of `{_code(model) or 'a model without a name'}`, each with the reasoning "
        "behind it, one fact per sentence. With ReasonEdit, the facts that fit a picture and a question stand before "
        "the question; the model itself is not changed.\n",
        _what(kept, undone),
        _use(model, repo_id),
        f"## Licence\n\n{f'`{_code(licence)}`' if licence else _UNLICENSED}\n",
        _some(kept),
    ]
    return "\n".join(part for part in parts if part)


def _head(model: str, licence: str) -> str:
    lines = ["library_name: reasonedit"]
    if licence:
        lines.append(f"license: {json.dumps(licence)}")
    if re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", model):  # an id on the Hub; no folder, no endpoint
        lines.append(f"base_model: {json.dumps(model)}")
    lines += ["tags:", "- reasonedit", "- model-editing", "- vision-language-model"]
    return "\n".join(["---", *lines, "---\n"])


def _what(kept: Sequence[StoredEdit], undone: Collection[StoredEdit]) -> str:
    times = sorted(edit.time[:10] for edit in kept if _is_date(edit.time[:10]))
    versions = sorted({edit.version for edit in kept if edit.version})
    rows = [
        ("corrections", f"{len(kept)}, with {_counted(sum(len(e.reasoning) for e in kept), 'sentence')}"),
        ("pictures", str(len({edit.image for edit in kept if edit.image}))),
        ("by", _authors(kept)),
        ("from, to", " to ".join(dict.fromkeys((times[0], times[-1]))) if times else ""),
        ("made with", ", ".join(f"ReasonEdit {plain(version)}" for version in versions)),
    ]
    table = "\n".join(f"| {name} | {value} |" for name, value in rows if value)
    also = "Pictures, texts, names of authors and the history of edits are in the files"
    if undone:
        also += f", and so are corrections that were undone ({len(undone)})"
    return f"## What is in it\n\n| | |\n| --- | --- |\n{table}\n\n{also}.\n"


def _authors(kept: Sequence[StoredEdit]) -> str:
    counted = Counter(edit.author for edit in kept)
    unnamed = counted.pop("", 0)
    said = [f"{plain(name)} ({count})" for name, count in counted.most_common()]
    return ", ".join([*said, *([f"without a name ({unnamed})"] if unnamed else [])])


def _use(model: str, repo_id: str) -> str:
    return f"""## How to use it

```python
from reasonedit import ReasonEditor

editor = ReasonEditor.from_hub("{repo_id}")
answer = editor.ask("photo.jpg", "What is it?")
print(answer.text, [hit.fact for hit in answer.hits])
```

In the shell, and to add corrections of your own:

```shell
reasonedit codebook pull codebook {repo_id}
reasonedit app --codebook codebook
```

It belongs to the vision part of `{_code(model)}`.
For another model `reasonedit codebook migrate` embeds its edits anew.
"""


def _some(kept: Sequence[StoredEdit]) -> str:
    if not kept:
        return ""
    shown = [
        f"- **{plain(edit.question)}** {plain(edit.answer)}. *Because:* {plain(' '.join(edit.reasoning))}"
        for edit in kept[: -_SHOWN - 1 : -1]
    ]
    return "\n".join(["## Some of its corrections\n", *shown, ""])


def plain(text: str) -> str:
    """A text on one line in which nothing is Markdown or HTML."""
    return re.sub(r"([\\`*_{}\[\]<>#|~!&])", r"\\\1", to_safe_text(" ".join(text.split())))


def _code(text: str) -> str:
    return to_safe_text(text).replace("`", "'")


def _is_date(text: str) -> bool:
    try:
        return bool(datetime.fromisoformat(text))
    except ValueError:
        return False


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
