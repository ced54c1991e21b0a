"""Whether the reasons of an edited VLM are right, and not its answers alone: grounded success, as CRANE asks for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import lightning as L

import reasonedit.callbacks as cb
from reasonedit.data.source import EditSource, GivesReasons
from reasonedit.data.stream import EditStream
from reasonedit.groups import ProbeGroup
from reasonedit.own_reasoning import interview
from reasonedit.pipeline import EditingPipeline
from reasonedit.rounds import final_probes
from reasonedit.types import Query
from reasonedit.vlm import Generation
from reasonedit.wording import normalise

from .cells import MakeCallbacks
from .lab import Lab

_GROUPS = (ProbeGroup.RELIABILITY, ProbeGroup.IMAGE_GENERALITY, ProbeGroup.COE_GENERALITY)


class Grounding(L.Callback):
    """Marks a row whose reasons are looked at after its last edit."""

    def measure(self, stream: EditStream, pipeline: EditingPipeline, rows: Sequence[Mapping[str, Any]]) -> list[Any]:
        """Have the edited VLM give the reasons of its answers, and compare them with the right ones.

        Reasons are asked for by :func:`~reasonedit.own_reasoning.interview`, each question of which gets its own facts.
        A reason is right if it is one of the right answer's. Questions that the interview has nothing to ask about, and
        sources that do not say the reasons of a probe, are passed over.

        Args:
            stream: The stream that ran.
            pipeline: The edited VLM.
            rows: All predictions of the run.

        Returns:
            For each probe with reasons its group, whether its answer was right, and whether all its reasons were.
        """
        assert stream.base is not None
        right = {row["id"]: bool(row["right"]) for row in final_probes(rows)}
        reasons_of = _told_reasons(stream.source)
        measured = []
        for probe in stream.base.probes:
            reasons = {normalise(sentence) for sentence in reasons_of(probe.query.id)}
            if probe.group not in _GROUPS or probe.query.id not in right or not reasons:
                continue

            def ask(question: str, longest: int, query: Query = probe.query) -> str:
                return pipeline.answer([Query(query.image, question)], Generation(longest))[0].text

            given = interview(ask, probe.query.question)
            if given:
                all_right = all(normalise(sentence) in reasons for sentence in given)
                measured.append([str(probe.group), right[probe.query.id], all_right])
        return measured


def grounded(make: MakeCallbacks) -> MakeCallbacks:
    """An editor whose reasons are looked at in the end."""

    def both(lab: Lab) -> list[L.Callback]:
        return [*make(lab), Grounding()]

    return both


def measure_grounding(
    callbacks: Sequence[L.Callback], stream: EditStream, editor: cb.Editor, rows: Sequence[Mapping[str, Any]]
) -> list[Any]:
    """What the callbacks of a cell say of its reasons; see :meth:`Grounding.measure`."""
    if not isinstance(editor, cb.Codebook) or editor.pipeline is None:
        return []
    return [m for c in callbacks if isinstance(c, Grounding) for m in c.measure(stream, editor.pipeline, rows)]


def _told_reasons(source: EditSource) -> Callable[[str], Sequence[str]]:
    """What gives the right reasons of a probe by its id; nothing where the source does not say them."""
    while not isinstance(source, GivesReasons) and hasattr(source, "source"):  # what is put around it has none
        source = source.source
    return source.reasons_of if isinstance(source, GivesReasons) else lambda _: ()
