"""VLKEB as its authors publish it (arXiv 2403.07350).

Files by the README of github.com/VLKEB/VLKEB: ``train.json``, ``eval.json``, ``eval_multihop.json``,
``eval_edit_onehop.json``, with images in ``VLKEB_images``, to which their configs add ``mmkb_images``. Their loader
(``easyeditor/dataset/coco_caption.py``) reads portability from ``port_new``: a list of ``port_type`` (``"1-hop"`` to
``"4-hop"``) with ``Q&A`` (``Question``, ``Answer``), asked about the edit's own picture. In ``eval_edit_onehop.json``
(the same loader, in their branch ``edit_onehop``) ``port_new`` holds a fact that is edited, too (``port_edit_q``,
``port_edit_a``), and a question about the picture that takes both edits (``port_q``, ``port_a``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from reasonedit.errors import InputError

from ..columns import as_text, read_text
from ..rows import Row
from ..sample import Sample
from .places import find_file, find_images
from .rows import BenchmarkRows, Planned, state_answer

_SPLITS = ("train", "eval", "eval_multihop", "eval_edit_onehop")
_PORTS = {f"{hops}-hop": f"port_{hops}" for hops in range(1, 5)}


class VLKEB(BenchmarkRows):
    """VLKEB: which entity a picture shows.

    Rel, T-Gen (``rephrase``), I-Gen (``image_rephrase``), Loc (``m_loc``), text Loc (``loc``) and portability in one to
    four steps (``port_new``, where the file has it); there is no reasoning, so that the answer is the only fact. In
    ``"eval_edit_onehop"`` the fact that is edited, too, is a second one.

    Args:
        root: Folder of the JSON files.
        images: Folder that the images' paths start from; ``VLKEB_images/mmkb_images`` or ``VLKEB_images`` in ``root``
            when not given.
        split: Which file: ``"eval_multihop"`` has portability in it, ``"eval_edit_onehop"`` in one step.
        **options: As for :class:`~reasonedit.data.pool.Pool`.

    Raises:
        InputError: An argument is out of range.
        NotFoundError: The file is not there.
    """

    def __init__(self, root: str, images: str | None = None, split: str = "eval_multihop", **options: Any) -> None:
        if split not in _SPLITS:
            raise InputError(f"There is no split '{split}' of VLKEB: use {', '.join(_SPLITS)}.")
        self.path = find_file(root, [f"{split}.json"])
        self.images = find_images(root, images, ["VLKEB_images/mmkb_images", "VLKEB_images"])
        super().__init__(**options)

    def reasoning(self, row: Row, question: str, answer: str) -> list[str]:
        """The answer, and the facts that are edited with it."""
        entries = [Row(row.number, port) for port in ports_in(row) if "port_edit_q" in port]
        return [
            *super().reasoning(row, question, answer),
            *(state_answer(read_text(e, "port_edit_q"), read_text(e, "port_edit_a", numbers=True)) for e in entries),
        ]

    def planned(self, row: Row) -> Iterator[Planned]:
        """Those of MMEdit's rows, and portability."""
        yield from super().planned(row)
        yield from self.ports_of(row)

    def ports_of(self, row: Row) -> Iterator[Planned]:
        """Portability by steps; an entry of another kind, or of none, is a probe of one step that cannot be made."""
        for port in ports_in(row):
            if "port_q" in port:
                entry = Row(row.number, port)
                yield Planned(
                    "port_1", partial(read_text, entry, "port_q"), partial(read_text, entry, "port_a", numbers=True)
                )
            else:
                yield port_probe(port, _PORTS.get(str(port.get("port_type")), "port_1"), list(_PORTS))

    def remarks(self, samples: Mapping[str, Sample]) -> list[str]:
        """That there is no reasoning."""
        count = sum(len(sample.reasoning) > 1 for sample in samples.values())
        if not count:
            return super().remarks(samples)
        return [
            f"{self.name} has no reasoning: the facts of each of its {len(samples)} edits are the answer and, in "
            f"{count} of them, the fact that is edited with it (port_edit_q, port_edit_a)."
        ]


def ports_in(row: Row) -> list[dict[str, Any]]:
    """The entries of ``port_new``; an empty one in place of each that is no object."""
    ports = row.values.get("port_new") or []
    return [port if isinstance(port, dict) else {} for port in (ports if isinstance(ports, list) else [ports])]


def port_probe(port: dict[str, Any], group: str, kinds: list[str], image: str = "") -> Planned:
    """The probe of an entry of ``port_new``; reading it raises where it is malformed.

    Args:
        port: The entry.
        group: Its group.
        kinds: What its ``port_type`` may be.
        image: The column of its picture; the edit's own when not given.
    """

    def read(name: str) -> str:
        if port.get("port_type") not in kinds:
            raise InputError(f"'port_type' is {port.get('port_type')!r}, not one of {', '.join(kinds)}.")
        pair = port.get("Q&A")
        value = pair.get(name) if isinstance(pair, dict) else None
        text = "" if value is None else as_text(value, name)
        if not text.strip():
            raise InputError(f"'{name}' is missing in 'Q&A' of 'port_new'.")
        return text

    return Planned(group, partial(read, "Question"), partial(read, "Answer"), image)
