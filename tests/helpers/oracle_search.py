"""How a question gets its facts, plainly and slowly: the second half of :mod:`helpers.oracle`."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from itertools import combinations

import numpy as np

from helpers.oracle import SHOWS, Found, Oracle, gap, mean_of_nearest
from reasonedit.sentences import content_words


class AskedOracle(Oracle):
    """An oracle that can be asked; ``left_out`` and the numbers of the gate are those of the last question."""

    def ask(self, image, question, room=None):
        """The prompt and its facts; ``room`` says whether a prompt has room."""
        config, keys = self.design.retrieval, self.merged()
        asked = config.visual_match is not None or config.false_alarms is not None
        self.matches_pictures = asked and self.layer != "none"
        self.bound = config.visual_match
        if config.false_alarms is not None and self.layer != "none" and not self.reads_text:
            self.bound = float(np.quantile(self.scores, 1 - config.false_alarms))
        self.in_range = self.is_in_range(image) if config.out_of_range is not None and self.counting else None
        self.left_out, self.elsewhere, self.nearest, self.threshold = [], [], math.inf, 0.0
        found = self.search(keys, image, question) if keys else []
        denied = []
        if config.verify is not None:
            found, denied = self.verified(found, image)
        if config.naming and self.in_range is not False:
            found = self.named(found, denied)
        if config.chain:
            found = self.linked(found, question)
        if config.walk:
            found += self.walked(found, denied)
        while found and room is not None and not room(self.prompt(found, question)):
            last = max(range(len(found)), key=lambda i: (bool(found[i].via), i))  # joined ones go first
            self.left_out.append(found.pop(last))
        return self.prompt(found, question), found

    def is_in_range(self, image):
        if self.layer == "none" or self.reads_text:
            return None
        wholes, regions = self.along
        numbers = range(len(wholes))

        def away(whole, parts, others):
            far = [mean_of_nearest(whole, [wholes[i] for i in others], 5)]
            if parts:
                cohort = [r for i in others for r in regions[i]]
                far.append(float(np.mean([mean_of_nearest(p, cohort, 5) for p in parts])))
            return np.array(far)

        parts = self.pooled_regions(image) if self.design.retrieval.query_regions else []
        query = away(self.directed(self.pooled(image)), [self.directed(p) for p in parts], numbers)
        own = [away(wholes[i], regions[i] if parts else [], [j for j in numbers if j != i]) for i in numbers]
        medians = np.array([sorted(of_part)[(len(own) - 1) // 2] for of_part in zip(*own, strict=True)])
        reach = (1 + 2 / math.sqrt(len(own))) * np.quantile(
            [(o / medians).mean() for o in own], 1 - self.design.retrieval.out_of_range
        )
        return bool((query / medians).mean() <= reach)

    # ---- the nearest facts

    def search(self, keys, image, question):
        config = self.design.retrieval
        queries = [self.embed([image], question)]
        if config.query_regions and self.layer != "none":
            text = self.text_half(question)
            queries = [np.concatenate([self.transformed(p), text]) for p in self.pooled_regions(image)] + queries
        sigma = [1.0] * len(keys)
        if config.hubness and len(keys) > 1:
            gaps = [[gap(k.point, o.point) for o in keys if o is not k] for k in keys]
            sigma = [max(1e-6, float(np.median(sorted(g)[:30]))) for g in gaps]
        distances = [min(gap(q, k.point) for q in queries) / s for k, s in zip(keys, sigma, strict=True)]
        edits = len(self.counting)
        pairs = [(gap(a.point, b.point), s, t) for (a, s), (b, t) in combinations(zip(keys, sigma, strict=True), 2)]
        self.threshold = math.inf
        if edits > 1 and pairs:
            corrected = [d / s for d, s, _ in pairs] + ([d / t for d, _, t in pairs] if config.hubness else [])
            self.threshold = float(np.percentile(corrected, max(config.percentile, 100 / edits)))
        self.nearest = min(distances)
        if self.nearest > self.threshold:
            return []
        order = sorted(range(len(keys)), key=distances.__getitem__)
        near = [(keys[i], distances[i], *self.compared(keys[i], queries)) for i in order]
        kinds = (lambda kind: True,)
        if config.k_answers is not None:
            kinds = (lambda kind: kind == "answer", lambda kind: kind != "answer")
        groups = [self.gathered(near, of_group, config, number) for number, of_group in enumerate(kinds)]
        found = sorted((f for facts, _ in groups for f in facts), key=lambda f: f.distance)
        self.elsewhere = [f for _, others in groups for f in others if f.fact not in {g.fact for g in found}]
        return found

    def compared(self, key, queries):
        """The visual match of a key, and whether its picture is the query's own; ``None`` where that does not count."""
        if not self.matches_pictures:
            return None, False
        width = len(self.cohort[0])
        point, queries = key.point[:width], [q[:width] for q in queries]
        of_key = self.level(point, self.cohort, self.cohort_count)
        levels = [self.level(q, self.cohort, self.cohort_count) for q in queries]
        scores = [self.score(gap(point, q), of_key, level) for q, level in zip(queries, levels, strict=True)]
        whole = key.kind in ("answer", "image")
        same = whole and gap(point, queries[-1]) < 0.5 * min(of_key[0], levels[-1][0])
        return (max(scores) if key.kind in ("patch", "given") else scores[-1]), same

    def gathered(self, near, of_group, config, number):
        """The nearest K of one group of keys, and facts of other pictures."""
        k = config.k if config.verify is None else max(config.k, config.candidates)
        if config.k_answers is not None and number == 0:
            k = config.k_answers
        facts, elsewhere, counted = {}, {}, 0
        for key, distance, match, same in near:
            said = [s for s in key.said if of_group(s[1])]
            if not said or (config.gate_per_fact and distance > self.threshold):
                continue
            new = (counted if config.k_counts == "keys" else len(facts)) < k
            fits = [s for s in said if self.fits(s[1], match)]
            if config.naming and k:
                for text, kind, edit in said:
                    if kind in SHOWS and (text, kind, edit) not in fits:
                        elsewhere.setdefault(text, Found(text, distance, kind, edit))
            if self.in_range is False:
                fits = [s for s in fits if s[1] == "text" or same]
            counted += bool(fits) and new
            for text, kind, edit in fits:
                of_kind = match if kind != "text" else None
                if text not in facts and not new:
                    continue
                fact = facts.setdefault(text, Found(text, distance, kind, edit, of_kind))
                if fact.kind == "text" and kind in SHOWS:
                    fact.kind, fact.edit, fact.match = kind, edit, of_kind
                if fact.match is not None and of_kind is not None:
                    fact.match = max(fact.match, of_kind)
                fact.same |= same
                fact.edits.add(edit)
                fact.by_text |= kind == "text"
        kept = list(facts.values())
        return (kept[:k] if config.k_counts == "facts" else kept), list(elsewhere.values())

    def fits(self, kind, match):
        if match is None or kind == "text" or self.bound is None:
            return True
        return match >= self.bound - ((self.design.retrieval.visual_margin or 0.0) if kind == "patch" else 0.0)

    # ---- what becomes of them

    def drop(self, found, stays):
        self.left_out += [f for f, stay in zip(found, stays, strict=True) if not stay][::-1]
        return [f for f, stay in zip(found, stays, strict=True) if stay]

    def verified(self, found, image):
        """What the VLM affirms, the nearest K of it and all answers; and what it denies."""
        config, denied, kept = self.design.retrieval, [], []
        for f in found:
            clear = config.visual_margin is not None and self.bound is not None and (f.match or -math.inf) >= self.bound
            if f.kind == "patch" and not clear and self.p_yes(image, f.fact) <= config.verify:
                if f.by_text:
                    kept.append(replace(f, kind="text", match=None))
                    continue
                denied.append(f.fact)
            kept.append(f)
        stays, count = [], 0
        for f in kept:
            counts = f.fact not in denied and f.kind != "answer"
            count += counts
            stays.append(f.fact not in denied and (not counts or count <= config.k))
        return self.drop(kept, stays), denied

    def graph(self):
        """What each fact brings and takes up, its age, who said it last, and which words are of relations."""
        brings, takes, age, last, words = {}, {}, {}, {}, Counter()
        for number, name in enumerate(self.counting):
            edit = self.edits[name][0]
            asked, brought = content_words(edit.question), set()
            for sentence in edit.reasoning:
                mine = content_words(sentence)
                new = mine - asked - brought
                words.update(mine if sentence not in age else ())
                brings.setdefault(sentence, set()).update(new)
                takes.setdefault(sentence, set()).update(mine & brought)
                age.setdefault(sentence, number)
                last[sentence] = name
                brought |= new
        common = {w for w, count in words.items() if len(age) >= 10 and count > 0.2 * len(age)}
        return {f: w - common for f, w in brings.items()}, {f: w - common for f, w in takes.items()}, age, last

    def named(self, found, denied):
        brings, takes, _, _ = self.graph()
        shown = [f.fact for f in found if f.kind in SHOWS]
        joined = []
        for f in self.elsewhere:
            leading = [s for s in shown if takes[f.fact] and takes[f.fact] <= brings[s] | takes[s]]
            if leading and f.fact not in denied:
                joined.append(replace(f, via=leading[0]))
        if not joined:
            return found
        every, kept, room = sorted([*found, *joined], key=lambda f: f.distance), set(), self.design.retrieval.k
        for f in every:
            more = {f.fact, f.via or f.fact} - kept
            if f.kind != "answer" and len(more) <= room:
                kept |= more
                room -= len(more)
        return self.drop(every, [f.kind == "answer" or f.fact in kept for f in every])

    def linked(self, found, question):
        shown = [f for f in found if f.kind in SHOWS]
        words = set(content_words(question)).union(*(content_words(f.fact) for f in shown))
        edits = {e for f in shown if not f.via for e in {*f.edits, f.edit}}
        stays = []
        for f in found:
            if self.in_range is False:
                stays.append(f.same)
            elif f.kind == "answer":
                stays.append(f.same or bool(edits & {*f.edits, f.edit}))
            else:
                stays.append(f.kind != "text" or bool(content_words(f.fact) & words))
        return self.drop(found, stays)

    def walked(self, found, denied):
        """What the facts lead to; ``via`` has all that lead there in one step."""
        brings, takes, age, last = self.graph()
        front = {f.fact for f in found if f.kind != "answer" and f.fact in brings}
        reached = set(front)
        added = []
        for _ in range(self.design.retrieval.walk):
            step = {}
            for fact in sorted(age, key=lambda f: -age[f]):
                before = [b for b in front if brings[b] & takes[fact]]
                if before and fact not in reached and fact not in denied:
                    step[fact] = before
            added += list(step.items())
            front = set(step)
            reached |= front
        added = dict(added[: self.design.retrieval.k])
        self.left_out = [f for f in self.left_out if f.fact not in added]
        return [Found(fact, math.nan, "text", last[fact], via=before) for fact, before in added.items()]

    def prompt(self, found, question):
        return " ".join([*(self.vlm.clean(f.fact) for f in found), question])
