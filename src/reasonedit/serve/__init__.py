"""A server that speaks OpenAI's protocol: a codebook in front of a VLM, and edits while it serves.

FastAPI on uvicorn. LitServe, Lightning's server, was looked at: it runs a worker process for each of its APIs and
paths, so that ``/v1/chat/completions`` and ``/v1/edits`` would hold two copies of the VLM, or speak to each other
through queues of our own. What it is good at, batching, the editor does already (:mod:`reasonedit.call_batcher`), and
paths that share a codebook want one process that sees it.
"""
