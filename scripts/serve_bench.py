"""What eight clients of a server get: with the facts of edits, and from the bare model, in one run."""

from __future__ import annotations

import argparse
import logging
import socket
import statistics
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import httpx2
import uvicorn
from bench_tools import describe_machine, print_ratio

from reasonedit import Query, ReasonEditor
from reasonedit.data.world.benchmark import EmbeddedWorld
from reasonedit.prompts import with_facts
from reasonedit.serve.app import create_app
from reasonedit.serve.observed import REQUESTS
from reasonedit.serve.pictures import as_data_uri
from reasonedit.serve.settings import Settings

CLIENTS = 8
LONGEST = 16
SEED = 100


@contextmanager
def serving(editor: ReasonEditor) -> Iterator[str]:
    """A server in a thread; its address."""
    logging.getLogger(REQUESTS).setLevel(logging.ERROR)
    listening = socket.create_server(("127.0.0.1", 0))
    app = create_app([editor], Settings("model"))
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/v1"
    finally:
        server.should_exit = True
        thread.join()
        listening.close()


def body_of(query: Query, facts: Sequence[str] = (), *, edits: bool) -> dict[str, Any]:
    """The request of a question, with facts before it."""
    image = {"type": "image_url", "image_url": {"url": as_data_uri(query.image)}}
    text = {"type": "text", "text": with_facts(facts, query.question)}
    message = {"role": "user", "content": [image, text]}
    return {"model": "model", "messages": [message], "max_tokens": LONGEST, "reasonedit": {"edits": edits}}


def ask_all(url: str, bodies: Sequence[dict[str, Any]], clients: int) -> tuple[float, list[float], list[list[str]]]:
    """Seconds in all, seconds of each request, and the facts before each question."""

    def ask(body: dict[str, Any]) -> tuple[float, list[str]]:
        began = time.perf_counter()
        reply = http.post(f"{url}/chat/completions", json=body)
        reply.raise_for_status()
        return time.perf_counter() - began, [fact["text"] for fact in reply.json()["reasonedit"]["facts"]]

    with httpx2.Client(timeout=600) as http, ThreadPoolExecutor(clients) as pool:
        began = time.perf_counter()
        told = list(pool.map(ask, bodies))
    return time.perf_counter() - began, [seconds for seconds, _ in told], [facts for _, facts in told]


def run(args: argparse.Namespace) -> None:
    """Compare, in turns, a server with facts with the bare model behind it and with the editor without any server."""
    editor = ReasonEditor.from_pretrained(args.model)
    samples = list(islice(EmbeddedWorld("demo", seed=SEED).candidates(), args.edits + args.questions))
    for sample in samples[: args.edits]:
        editor.write(sample)
    queries = [Query(s.image, s.question) for s in samples[args.edits :]]
    totals: dict[str, list[float]] = defaultdict(list)
    each: dict[str, list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        editor.save(Path(folder) / "codebook")
        with serving(editor) as url:
            asked = {"with facts": [body_of(query, edits=True) for query in queries]}
            _, _, facts = ask_all(url, asked["with facts"], CLIENTS)  # warm
            pairs = zip(queries, facts, strict=True)
            asked["the same prompts, bare"] = [body_of(query, of_query, edits=False) for query, of_query in pairs]
            asked["bare"] = [body_of(query, edits=False) for query in queries]
            for _ in range(args.repeats):
                for name, bodies in asked.items():
                    total, seconds, _ = ask_all(url, bodies, CLIENTS)
                    totals[name].append(total)
                    each[name] += seconds
                began = time.perf_counter()
                for start in range(0, len(queries), CLIENTS):
                    editor.ask_batch(queries[start : start + CLIENTS], max_new_tokens=LONGEST)
                totals["no server"].append(time.perf_counter() - began)
    used = sum(bool(of_query) for of_query in facts)
    sizes = f"{CLIENTS} clients, {args.edits} edits, {args.questions} questions, facts before {used} of them"
    print(f"{describe_machine(editor.vlm)}: {sizes}")
    for name, seconds in each.items():
        cuts = statistics.quantiles(seconds, n=100)
        rate = args.questions / statistics.median(totals[name])
        print(f"{name:22s} {rate:6.2f} answers per second, p50 {1e3 * cuts[49]:7.1f} ms, p99 {1e3 * cuts[98]:7.1f} ms")
    medians = {name: statistics.median(of_side) / args.questions for name, of_side in totals.items()}
    for other, aim in (("the same prompts, bare", "<= 1.1"), ("bare", ""), ("no server", "<= 1.1")):
        what = f"{CLIENTS} clients of a server, per question: with facts / {other}"
        print_ratio(what, medians["with facts"], medians[other], aim)
