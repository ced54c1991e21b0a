"""The embedded world: procedural pictures, facts about what they show, exact probes, and a VLM that sees it."""
