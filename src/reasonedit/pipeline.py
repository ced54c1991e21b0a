"""The whole way of an edit into the codebook, and of a question to its answer: what all faces of the package share."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from PIL import Image
from torch import Tensor

from reasonedit.boxes import WHOLE, Box
from reasonedit.codebook import Draft, EditMemory, Entry, Store, StoredEdit, check_fingerprint
from reasonedit.design import Design
from reasonedit.embedding import (
    NO_LAYER,
    QUERY_REGIONS,
    DualEmbedder,
    SentenceEncoder,
    Statistics,
    statistics_of,
    tensors_of,
)
from reasonedit.evidence import GUESSED, LIKELIEST, Evidence, EvidenceConfig, EvidenceFinder, WindowScore
from reasonedit.explain import CONSIDERED, Candidate, Explanation, explain_answer
from reasonedit.keys import KeyBuilder, is_guess
from reasonedit.retrieval import FactRetriever, Retrieval, RetrievalConfig, fit_prompts, link_facts, verify_facts
from reasonedit.threads import Guard
from reasonedit.types import Answer, Edit, Query
from reasonedit.vlm import VLM, Generation, Reply, Seen, Vision


@dataclass(frozen=True)
class Written:
    """What became of an edit.

    Attributes:
        keys: Number of keys that are new; the others merged.
        entries: What was written.
        evidence: What was found for each sentence; no windows where the user gave evidence or none was sought.
        edit: The edit as it is kept.
    """

    keys: int
    entries: list[Entry]
    evidence: list[Evidence]
    edit: StoredEdit


class EditingPipeline:
    """A frozen VLM with its codebook: writes edits, fetches facts, answers and explains, for any number of threads.

    :class:`~reasonedit.ReasonEditor`, the callbacks and the commands are faces of it.

    An edit counts when the codebook has it, a query sees the codebook as it is when its facts are fetched: what several
    threads get is what they would have got one after the other, in the order of these moments.

    Args:
        vlm: The frozen VLM.
        design: All choices; what :meth:`Design.default` says for this VLM when not given.
        memory: The codebook so far.
        encoder: The sentence encoder, loaded by name when not given.
        statistics: Those of the embedding, when they are known already.
        finder: What makes the evidence finder, such as one that keeps what it found.
    """

    def __init__(
        self,
        vlm: VLM,
        design: Design | None = None,
        memory: EditMemory | None = None,
        encoder: SentenceEncoder | None = None,
        statistics: Statistics | None = None,
        finder: Callable[[VLM, EvidenceConfig], EvidenceFinder] = EvidenceFinder,
    ) -> None:
        self.vlm = vlm
        self.design = self.own = design or Design.default(vlm.name)
        self.embedder = DualEmbedder(vlm, self.design.embedding, encoder, statistics)
        self.memory = memory if memory is not None else EditMemory(self.design.writing.merge)
        self.memory.merge = self.design.writing.merge
        self.finder = finder(vlm, self.design.evidence)
        self.keys = KeyBuilder(self.embedder, self.design.writing)
        self._retriever: FactRetriever | None = None
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
        """Go on with the codebook in a folder.

        Args:
            store: The folder.
            vlm: The VLM that the codebook was made with.
            memory: What the folder holds, where it was read already.
            finder: As above.

        Raises:
            ReasonEditError: The folder is damaged, or its keys were made with another VLM or in another way.
        """
        memory = memory if memory is not None else EditMemory.open(store)
        design, statistics = Design.from_dict(store.manifest.design), statistics_of(store.statistics())
        pipeline = cls(vlm, design, memory, statistics=statistics, finder=finder)
        check_fingerprint(store.manifest.fingerprint, pipeline.embedder.fingerprint, store.folder)
        return pipeline

    # ---- edits

    def write(self, edit: Edit, vision: Vision | None = None) -> Written:
        """Write an edit.

        Args:
            edit: The edit.
            vision: Its image, where :meth:`see` or the embedder's ``see`` saw it already.

        Raises:
            ReasonEditError: An edit of this id is there already, or its keys do not fit the codebook's.
        """
        draft, found = self.draft(edit, vision)
        with self.memory.changing():
            kept = self.memory.add([draft])[0]
            new = self.memory.key_count(kept.id)  # what others wrote into the folder meanwhile is none of it
        return Written(new, draft.entries, found, kept)

    def draft(self, edit: Edit, vision: Vision | None = None) -> tuple[Draft, list[Evidence]]:
        """What an edit would write, without writing it; arguments and errors as for :meth:`write`.

        Returns:
            What it would write, and what was found for each sentence.
        """
        with self._drafting:  # one edit at a time: queries find their way between its passes
            self.memory.check_new(edit.id)  # before the costly part
            image = vision.images[0] if vision is not None else None
            found, windows = self._find_evidence(edit, image.regions if image is not None else {})
            return self._make_draft(edit, found, image, windows), found

    def embed_anew(self, edit: Edit, kept: StoredEdit) -> Draft:
        """What an edit writes whose evidence was found before, by another VLM: nothing is sought.

        Args:
            edit: The edit.
            kept: What was kept of it.
        """
        found = []
        for i, sentence in enumerate(kept.reasoning):
            boxes = kept.found[i] if i < len(kept.found) else []
            why = GUESSED if i < len(kept.guessed) and kept.guessed[i] else LIKELIEST
            found.append(Evidence(sentence, [WindowScore(box, kept=True, why=why) for box in boxes]))
        return self._make_draft(edit, found)

    def _make_draft(
        self,
        edit: Edit,
        found: Sequence[Evidence],
        image: Seen | None = None,
        windows: Mapping[Box, Seen] | None = None,
    ) -> Draft:
        entries = self.keys.build(edit, found, image, windows)
        return Draft.of(edit, entries, [e.boxes for e in found], [is_guess(e) for e in found])

    def _find_evidence(self, edit: Edit, known: Mapping[Box, Seen]) -> tuple[list[Evidence], dict[Box, Seen]]:
        """What is found for the sentences that came without evidence, and the windows as they were seen."""
        writing = self.design.writing
        found = [Evidence(s) for s in edit.reasoning]
        if writing.entries == "answer" or writing.keys == "image":
            return found, {}
        open_ones = [i for i, given in enumerate(edit.evidence) if not given]
        sentences = [edit.reasoning[i] for i in open_ones]
        evidence, windows = self.finder.find_with_windows(edit.image, sentences, self.embedder.layers, known)
        for i, e in zip(open_ones, evidence, strict=True):
            found[i] = e
        return found, windows

    # ---- queries

    @property
    def retriever(self) -> FactRetriever:
        """What fetches facts from the codebook as it is now."""
        with self.memory.guard:
            retriever, retrieval = self._retriever, self.design.retrieval
            if retriever is None or retriever.memory is not self.memory or retriever.config != retrieval:
                sees = retrieval.visual_match is not None and self.embedder.width > 0
                cohort = self.embedder.statistics.cohort if sees else None
                retriever = self._retriever = FactRetriever(self.memory, retrieval, cohort)
            return retriever

    def use(self, retrieval: RetrievalConfig) -> None:
        """Fetch facts in another way from now on."""
        with self.memory.guard:
            self.design = replace(self.design, retrieval=retrieval)

    def see(self, images: Sequence[Image.Image]) -> Vision:
        """Run the vision part on the images of questions, as far as fetching facts and answering need it."""
        return self.embedder.see(images, regions=self.design.retrieval.query_regions)

    def has(self, vision: object) -> bool:
        """Whether a vision pass kept what :meth:`see` keeps."""
        return self.embedder.has(vision, regions=self.design.retrieval.query_regions)

    def queries(self, vision: Vision, questions: Sequence[str]) -> Tensor:
        """Embed questions: (B, 1, D), or (B, 10, D) where the image's regions count too."""
        if not self.design.retrieval.query_regions:
            return self.embedder.embed(vision, questions)[:, None]
        boxes = [*QUERY_REGIONS, WHOLE]
        halves = torch.stack(self.embedder.embed_regions(vision, [boxes] * len(questions)))  # (B, 10, Dv)
        texts = self.embedder.embed_texts(questions)[:, None].expand(-1, len(boxes), -1)
        return torch.cat([halves, texts], dim=2)

    def retrieve(self, vision: Vision, questions: Sequence[str]) -> list[Retrieval]:
        """Fetch facts for questions about images.

        Args:
            vision: The images, from :meth:`see`.
            questions: One per image.
        """
        keys = self.queries(vision, questions) if self.memory.edits else None
        *_, (_, found) = self.steps(vision, questions, self.found(questions, keys))
        return found

    def found(self, questions: Sequence[str], keys: Tensor | None) -> list[Retrieval]:
        """The nearest facts of questions, before any of them is verified.

        Args:
            questions: The questions.
            keys: What :meth:`queries` makes of them; ``None`` where there was no edit.
        """
        with self.memory.guard:
            if keys is None or not self.memory.edits:
                return [Retrieval([], float("inf"), 0.0) for _ in questions]
            return self.retriever.retrieve(keys)

    def steps(
        self, vision: Vision, questions: Sequence[str], found: list[Retrieval]
    ) -> Iterator[tuple[str, list[Retrieval]]]:
        """What is left of the nearest facts after each step, and why that step leaves facts out.

        Args:
            vision: The images, from :meth:`see`.
            questions: One per image.
            found: Their nearest facts, of :meth:`found`.
        """
        yield "not among the K nearest", found
        config = self.design.retrieval
        if config.verify is not None and any(r.hits for r in found):
            found = verify_facts(self.vlm, vision, found, config)
            yield "the VLM does not see it in the picture, or K others were nearer", found
        if config.chain and any(r.hits for r in found):
            found = link_facts(found, questions)
            yield "nothing that the picture shows leads to it", found

    def prompts(
        self,
        vision: Vision,
        questions: Sequence[str],
        found: Sequence[Retrieval],
        choices: Sequence[Sequence[str] | None] | None = None,
        generation: Generation | None = None,
    ) -> tuple[list[str], list[Retrieval]]:
        """Put the facts before the questions; where they do not fit into the model's context the farthest go first.

        Returns:
            The texts to ask, and what was retrieved, with what was left out.
        """
        return fit_prompts(self.vlm, vision, questions, found, choices, (generation or Generation()).max_new_tokens)

    # ---- answers

    def answer(self, queries: Sequence[Query], generation: Generation | None = None) -> list[Answer]:
        """Answer questions, in one batch, by the codebook as it is now: what others wrote into its folder counts, too.

        Args:
            queries: The questions with their images.
            generation: How answers are made.

        Raises:
            ReasonEditError: A prompt is longer than the model reads, the model's numbers are not finite, or the
                codebook's folder is damaged.
        """
        self.memory.refresh()
        questions, choices = [q.question for q in queries], [q.choices for q in queries]
        vision = self.see([q.image for q in queries])
        texts, found = self.prompts(vision, questions, self.retrieve(vision, questions), choices, generation)
        replies = self.vlm.reply(vision, texts, choices, generation)
        return [answered(*one) for one in zip(replies, found, texts, strict=True)]

    def explain(self, query: Query, generation: Generation | None = None) -> Explanation:
        """Answer a question, and say for each key that came near why its facts were used or not.

        Args and errors as for :meth:`answer`.
        """
        self.memory.refresh()
        vision = self.see([query.image])
        questions, choices = [query.question], [query.choices]
        keys = self.queries(vision, questions) if self.memory.edits else None
        with self.memory.guard:  # what was fetched and what is said of it are of one moment
            found = self.found(questions, keys)
            near = self._near(keys)
        steps = [(why, left[0]) for why, left in self.steps(vision, questions, found)]
        texts, kept = self.prompts(vision, questions, [steps[-1][1]], choices, generation)
        steps.append(("no room in the prompt", kept[0]))
        answer = answered(self.vlm.reply(vision, texts, choices, generation)[0], kept[0], texts[0])
        return explain_answer(answer, near, steps, gate_per_fact=self.design.retrieval.gate_per_fact)

    def _near(self, keys: Tensor | None) -> list[Candidate]:
        """The keys near the first query, each with its edit and radius; none where nothing was edited yet."""
        if keys is None:
            return []
        near = self.retriever.nearest(keys[0], CONSIDERED)
        edits = [self.memory.find(key.facts[0].edit_id) for key in near]
        radii = [self.memory.radius(key.number) for key in near]
        return list(zip(near, edits, radii, strict=True))

    # ---- keeping

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Keep the codebook in a folder from now on, its own or another one: edits are on the disk at once.

        Raises:
            ReasonEditError: There is another codebook, or the folder cannot be written.
        """
        with self._saving:  # not the memory's guard: whoever asks meanwhile waits for no other writer
            store = self.memory.store
            if store is None or not Store.exists(folder) or not os.path.samefile(folder, store.folder):
                self.memory.copy_to(self.begin_store(folder))
            self.memory.settle()

    def begin_store(self, folder: str | os.PathLike[str]) -> Store:
        """Begin a codebook's folder for what this pipeline writes.

        Raises:
            ReasonEditError: There is one already, or the folder cannot be written.
        """
        config = {"model": self.vlm.name, "design": self.design.to_dict()}
        sees = self.embedder.layer != NO_LAYER
        statistics = tensors_of(self.embedder.statistics) if sees else {}
        return Store.create(folder, self.embedder.fingerprint, config, statistics, merge=self.memory.merge)


def open_embed(vlm: VLM) -> Callable[[EditMemory], Callable[[Edit, StoredEdit], Draft]]:
    """What embeds the edits of a codebook anew, for :func:`reasonedit.codebook.repair.repair`.

    Args:
        vlm: The VLM that the codebook was made with; another one raises a ``ReasonEditError`` when it is called.
    """

    def open_pipeline(memory: EditMemory) -> Callable[[Edit, StoredEdit], Draft]:
        assert memory.store is not None
        return EditingPipeline.open(memory.store, vlm, memory).embed_anew

    return open_pipeline


def answered(reply: Reply, found: Retrieval, prompt: str) -> Answer:
    """An answer with what led to it, from what the VLM said to a prompt with the facts that were found."""
    return Answer(
        reply.text,
        found.hits,
        prompt,
        found.nearest,
        found.threshold,
        found.left_out,
        thought=reply.thought,
        finish_reason=reply.finish_reason,
    )
