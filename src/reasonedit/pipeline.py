"""The way of an edit into the codebook, and of a question to its answer."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from reasonedit.asked import Asked, CurrentStatistics
from reasonedit.boxes import WHOLE, Box
from reasonedit.calibration import Calibration, calibrated, cautious
from reasonedit.codebook import Draft, EditMemory, Store, StoredEdit, as_edit, check_fingerprint
from reasonedit.design import Design
from reasonedit.embedding import (
    QUERY_REGIONS,
    Coming,
    DualEmbedder,
    SentenceEncoder,
    Statistics,
    statistics_of,
    tensors_of,
)
from reasonedit.evidence import Evidence, EvidenceConfig, EvidenceFinder
from reasonedit.explain import CONSIDERED, Candidate, Explanation, explain_answer, make_answer
from reasonedit.keys import KeyBuilder, Written, evidence_of, is_guess
from reasonedit.retrieval import NEAREST, FactRetriever, Retrieval, RetrievalConfig, choose_facts, fit_prompts
from reasonedit.types import Answer, Edit, Hit, Query
from reasonedit.util.threads import Guard
from reasonedit.vlm import VLM, Generation, Seen, Turn, Vision


class EditingPipeline:
    """A frozen VLM with its codebook: it writes edits, retrieves facts, answers and explains.

    :class:`~reasonedit.ReasonEditor`, the callbacks and the commands all work through it.

    Any number of threads may use it. An edit counts from the moment in which the codebook has it, and a query sees the
    codebook of the moment in which its facts are retrieved. The results are those of some sequential order.

    Args:
        vlm: The frozen VLM.
        design: The design; the default of this VLM when not given.
        memory: The codebook so far; an empty one when not given.
        encoder: The sentence encoder; loaded by its name in the design when not given.
        statistics: The statistics of the vision half, if they are known already.
        finder: Makes the evidence finder, such as one with a cache.
        calibration: A calibration by pictures like the user's, in place of the design's reference pictures. Its layer
            is read where no design, or none with a layer, is given.

    Attributes:
        watch: Told the pictures of each batch of questions, with their vision pass, before facts are fetched for them.

    Raises:
        MismatchError: The calibration was made for another VLM or setting.
    """

    def __init__(
        self,
        vlm: VLM,
        design: Design | None = None,
        memory: EditMemory | None = None,
        encoder: SentenceEncoder | None = None,
        statistics: Statistics | None = None,
        finder: Callable[[VLM, EvidenceConfig], EvidenceFinder] = EvidenceFinder,
        calibration: Calibration | None = None,
    ) -> None:
        self.vlm = vlm
        given, design = design, design or Design.default(vlm.name)
        if calibration is not None:
            design = replace(design, embedding=calibration.record.embedding(design.embedding, given is None))
        self.design = self.own = design.checked(vlm)
        self.embedder = DualEmbedder(vlm, self.design.embedding, encoder, statistics)
        self.memory = memory if memory is not None else EditMemory(self.design.writing.merge)
        self.memory.merge = self.design.writing.merge
        self.finder = finder(vlm, self.design.evidence)
        self.keys = KeyBuilder(self.embedder, self.design.writing)
        self.statistics = CurrentStatistics(self.embedder, calibration)
        self.watch: Callable[[Sequence[Image.Image], Vision], None] = lambda _images, _vision: None
        self._retriever: FactRetriever | None = None
        self._retrieves_by: tuple[object, ...] = ()
        self._drafting = Guard()
        self._saving = Guard()

    @classmethod
    def open(
        cls,
        store: Store,
        vlm: VLM,
        memory: EditMemory | None = None,
        finder: Callable[[VLM, EvidenceConfig], EvidenceFinder] = EvidenceFinder,
    ) -> EditingPipeline:
        """Open the codebook in a folder.

        Args:
            store: The folder.
            vlm: The VLM that the codebook was made with.
            memory: The codebook, if it was read from the folder already.
            finder: As above.

        Raises:
            DamagedError: The folder is damaged.
            MismatchError: Its keys were made with another VLM, or in another way.
        """
        memory = memory if memory is not None else EditMemory.open(store)
        design, statistics = Design.from_dict(store.manifest.design), statistics_of(store.statistics())
        pipeline = cls(vlm, design, memory, statistics=statistics, finder=finder)
        check_fingerprint(store.manifest.fingerprint, pipeline.embedder.fingerprint, store.folder)
        pipeline.statistics.note(store)
        return pipeline

    # ---- edits

    def write(self, edit: Edit, vision: Vision | None = None, replaces: str = "") -> Written:
        """Write an edit.

        Args:
            edit: The edit.
            vision: Its image, if :meth:`see` or the embedder's ``see`` saw it already.
            replaces: The id of the edit that it replaces; see :meth:`~reasonedit.codebook.EditMemory.replace`.

        Raises:
            ConflictError: There is an edit of this id already.
            ReasonEditError: The codebook cannot be written.
        """
        made_by = self.statistics.value
        draft, evidence = self.draft(edit, vision)
        with self.memory.changing():
            (draft,) = self.renewed([draft], made_by)
            stored = self.memory.replace(replaces, draft) if replaces else self.memory.add([draft])[0]
            new_keys = self.memory.key_count(stored.id)  # without what others wrote into the folder meanwhile
        return Written(new_keys, draft.entries, evidence, stored)

    def draft(self, edit: Edit, vision: Vision | None = None) -> tuple[Draft, list[Evidence]]:
        """Make what an edit writes, without writing it; arguments and errors as for :meth:`write`.

        Returns:
            What it writes, and the evidence of each sentence.
        """
        with self._drafting:  # one edit at a time; queries get in between its passes
            self.memory.check_new(edit.id)  # before the costly part
            image = vision.images[0] if vision is not None else None
            evidence, windows = self._find_evidence(edit)
            return self._make_draft(edit, evidence, image, windows), evidence

    def renewed(self, drafts: Sequence[Draft], made_by: Statistics | None) -> list[Draft]:
        """Drafts as the statistics of now make them; called where nobody else can change the codebook.

        Args:
            drafts: The drafts.
            made_by: The statistics by which they were made.
        """
        self.statistics.take_in(self.memory)
        self.statistics.keep(self.memory)
        if self.statistics.value is made_by:
            return list(drafts)
        return [self.embed_anew(as_edit(draft.edit, draft.pictures), draft.edit) for draft in drafts]

    def embed_anew(self, edit: Edit, stored: StoredEdit) -> Draft:
        """Make what an edit writes from the evidence that was stored with it: none is sought.

        Args:
            edit: The edit.
            stored: The edit as a codebook keeps it.
        """
        return self._make_draft(edit, evidence_of(stored))

    def _make_draft(
        self,
        edit: Edit,
        evidence: Sequence[Evidence],
        image: Seen | None = None,
        windows: Mapping[Box, Seen] | None = None,
    ) -> Draft:
        entries = self.keys.build(edit, evidence, image, windows)
        return Draft.of(edit, entries, [e.boxes for e in evidence], [is_guess(e) for e in evidence])

    def _find_evidence(self, edit: Edit) -> tuple[list[Evidence], dict[Box, Seen]]:
        """Find evidence for the sentences that came without it; also its windows as the vision part saw them."""
        all_evidence = [Evidence(sentence) for sentence in edit.reasoning]
        if not self.design.writing.seeks_evidence:
            return all_evidence, {}
        without = [i for i, given in enumerate(edit.evidence) if not given]
        sentences = [edit.reasoning[i] for i in without]
        found, windows = self.finder.find_with_windows(edit.image, sentences, self.embedder.layers)
        for i, evidence in zip(without, found, strict=True):
            all_evidence[i] = evidence
        return all_evidence, windows

    # ---- queries

    @property
    def retriever(self) -> FactRetriever:
        """What retrieves facts from the codebook as it is now."""
        with self.memory.guard:
            statistics = self.statistics.value if self.design.retrieval.matches_pictures else None
            retrieval = self.design.retrieval
            if self.statistics.awaits_pictures:
                retrieval = cautious(retrieval)
            made_of = (self.memory, retrieval, statistics)
            if self._retriever is None or self._retrieves_by != made_of:
                retrieval = calibrated(retrieval, statistics)
                cohort = statistics.cohort if statistics is not None else None
                self._retriever, self._retrieves_by = FactRetriever(self.memory, retrieval, cohort), made_of
            return self._retriever

    def use(self, retrieval: RetrievalConfig) -> None:
        """Retrieve facts in another way from now on."""
        with self.memory.guard:
            self.design = replace(self.design, retrieval=retrieval)

    def see(self, images: Sequence[Image.Image]) -> Vision:
        """Run the vision part on the images of questions, as far as retrieval and answering need it."""
        return self.embedder.see(images, regions=self.design.retrieval.query_regions)

    def has(self, vision: object) -> bool:
        """Whether a vision pass has all that :meth:`see` gives."""
        return self.embedder.has(vision, regions=self.design.retrieval.query_regions)

    def queries(self, vision: Vision, questions: Sequence[str], ahead: Coming | None = None) -> Tensor:
        """Embed questions: (B, 1, D), or (B, 10, D) with the nine query regions, the whole image last."""
        if not self.design.retrieval.query_regions:
            return self.embedder.embed(vision, questions, ahead)[:, None]
        halves = torch.stack(self.embedder.embed_regions(vision, [[*QUERY_REGIONS, WHOLE]] * len(questions)))
        texts = ahead.result() if ahead is not None else self.embedder.embed_texts(questions)
        return torch.cat([halves, texts[:, None].expand(-1, halves.shape[1], -1)], dim=2)

    def retrieve(self, vision: Vision, questions: Sequence[str], ahead: Coming | None = None) -> list[Retrieval]:
        """Retrieve facts for questions about images.

        Args:
            vision: The images, from :meth:`see`, one per question.
            questions: The questions.
            ahead: Their sentence halves, if the embedder's ``begin_texts`` began them before the images were seen.
        """
        with self.asking(vision, questions, ahead) as asked:
            steps = self.steps(vision, questions, self.nearest(questions, asked))
        *_, (_, retrieved) = steps
        return retrieved

    @contextmanager
    def asking(self, vision: Vision, questions: Sequence[str], ahead: Coming | None = None) -> Iterator[Asked | None]:
        """Questions embedded by the statistics by which the keys are; the codebook does not change meanwhile.

        ``None`` if there was no edit.
        """
        while True:
            asked = self.embed_questions(vision, questions, ahead) if self.memory.edits else None
            with self.memory.guard:
                self.statistics.take_in(self.memory)
                if asked is None or asked.statistics is self.statistics.value:
                    yield asked
                    return

    def embed_questions(self, vision: Vision, questions: Sequence[str], ahead: Coming | None = None) -> Asked:
        """Questions embedded by the statistics of now; arguments as for :meth:`retrieve`."""
        statistics, retrieval = self.statistics.value, self.design.retrieval
        boxes = [*QUERY_REGIONS, WHOLE] if retrieval.query_regions else [WHOLE]
        in_range = self.statistics.in_range(vision, boxes, retrieval.out_of_range)
        return Asked(self.queries(vision, questions, ahead), in_range, statistics)

    def nearest(self, questions: Sequence[str], asked: Asked | None) -> list[Retrieval]:
        """The nearest facts of questions, before any of them is verified.

        Args:
            questions: The questions.
            asked: Their embeddings, from :meth:`asking`.
        """
        with self.memory.guard:
            if asked is None or not self.memory.edits:
                return [Retrieval([], float("inf"), 0.0) for _ in questions]
            return self.retriever.retrieve(asked.keys, asked.in_range)

    def steps(
        self, vision: Vision, questions: Sequence[str], retrieved: list[Retrieval], memory: EditMemory | None = None
    ) -> Iterator[tuple[str, list[Retrieval]]]:
        """Leave out and add facts step by step, by the bounds of now; see :func:`~reasonedit.retrieval.choose_facts`.

        Args:
            vision: The images, from :meth:`see`.
            questions: One per image.
            retrieved: Their nearest facts, from :meth:`nearest`.
            memory: The codebook that they are from, where it is not this pipeline's own.
        """
        if not any(r.hits for r in retrieved):
            return iter([(NEAREST, retrieved)])
        return choose_facts(self.vlm, vision, questions, retrieved, memory or self.memory, self.retriever.config)

    def prompts(
        self,
        vision: Vision,
        questions: Sequence[str],
        retrieved: Sequence[Retrieval],
        choices: Sequence[Sequence[str] | None] | None = None,
        generation: Generation | None = None,
        earlier: Sequence[Sequence[Turn]] | None = None,
    ) -> tuple[list[str], list[Retrieval]]:
        """Put facts before questions, as far as there is room; see :func:`~reasonedit.retrieval.fit_prompts`."""
        longest = (generation or Generation()).max_new_tokens
        return fit_prompts(self.vlm, vision, questions, retrieved, choices, longest, earlier)

    # ---- answers

    def answer(self, queries: Sequence[Query], generation: Generation | None = None) -> list[Answer]:
        """Answer questions in one batch, by the codebook as it is now, including what others wrote into its folder.

        Args:
            queries: The questions with their images; one that is asked without a picture gets no facts.
            generation: How answers are made.

        Raises:
            InputError: A prompt is longer than the model reads.
            DamagedError: The codebook's folder is damaged.
            ReasonEditError: The model's numbers are not finite.
        """
        with_picture, texts = [q for q in queries if not q.text_only], [q.question for q in queries if q.text_only]
        shown = iter(self._answer_shown(with_picture, generation) if with_picture else ())
        told = iter(self.vlm.reply_to_texts(texts, generation) if texts else ())
        nothing = Retrieval([], float("inf"), 0.0)
        return [make_answer(next(told), nothing, q.question) if q.text_only else next(shown) for q in queries]

    def _answer_shown(self, queries: Sequence[Query], generation: Generation | None) -> list[Answer]:
        self.memory.refresh()
        questions, choices = [q.question for q in queries], [q.choices for q in queries]
        ahead = self.embedder.begin_texts(questions) if self.memory.edits else None
        vision = self.see(images := [q.image for q in queries])
        self.watch(images, vision)
        found = self.retrieve(vision, questions, ahead)
        prompts, retrieved = self.prompts(vision, questions, found, choices, generation)
        replies = self.vlm.reply(vision, prompts, choices, generation)
        return [make_answer(*parts) for parts in zip(replies, retrieved, prompts, strict=True)]

    def explain(self, query: Query, generation: Generation | None = None) -> Explanation:
        """Answer a question, and say for each key that came near why its facts were used or not.

        Args and errors as for :meth:`answer`.
        """
        self.memory.refresh()
        vision = self.see([query.image])
        questions, choices = [query.question], [query.choices]
        with self.asking(vision, questions) as asked:  # the facts and the keys that are explained are of one moment
            nearest = self.nearest(questions, asked)
            near = self._near(asked, [*nearest[0].hits, *nearest[0].elsewhere])
            begun = self.steps(vision, questions, nearest)
        steps = [(why, left[0]) for why, left in begun]
        prompts, retrieved = self.prompts(vision, questions, [steps[-1][1]], choices, generation)
        steps.append(("no room in the prompt", retrieved[0]))
        answer = make_answer(self.vlm.reply(vision, prompts, choices, generation)[0], retrieved[0], prompts[0])
        return explain_answer(answer, near, steps, gate_per_fact=self.design.retrieval.gate_per_fact)

    def _near(self, asked: Asked | None, fetched: Sequence[Hit]) -> list[Candidate]:
        """The keys near the first query, each with its edits and radius, those of what was fetched among them."""
        if asked is None:
            return []
        near = self.retriever.nearest(asked.keys[0], CONSIDERED, fetched)
        edits = [{fact.edit_id: self.memory.find(fact.edit_id) for fact in key.facts} for key in near]
        return [(key, of_key, self.memory.radius(key.number)) for key, of_key in zip(near, edits, strict=True)]

    # ---- keeping

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Keep the codebook in a folder from now on: every edit is on the disk at once.

        Raises:
            ConflictError: There is another codebook.
            UnavailableError: The folder cannot be written.
        """
        with self._saving:  # not the memory's guard, for which queries would have to wait
            if self.memory.store is None or not self.memory.store.lies_in(folder):
                store = self.begin_store(folder)
                with store.writing(), self.memory.guard:
                    self.memory.refresh()
                    self.statistics.take_in(self.memory)
                    store.say_anew(self.settings, self._tensors())
                    self.memory.copy_to(store)
                    self.statistics.note(store)
            self.memory.settle()

    def begin_store(self, folder: str | os.PathLike[str]) -> Store:
        """Begin a codebook's folder for what this pipeline writes.

        Raises:
            ConflictError: There is one already.
            UnavailableError: The folder cannot be written.
        """
        return Store.create(folder, self.embedder.fingerprint, self.settings, self._tensors(), merge=self.memory.merge)

    def _tensors(self) -> dict[str, Tensor]:
        statistics = self.statistics.value
        return tensors_of(statistics) if statistics is not None else {}

    @property
    def settings(self) -> dict[str, Any]:
        """What a codebook's manifest says of how it was made."""
        return {"model": self.vlm.name, "design": self.design.to_dict(), **self.statistics.to_config()}
