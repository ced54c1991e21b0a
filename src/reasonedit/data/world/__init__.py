"""The embedded world: procedural pictures, facts about what they show, exact edits and probes, and a VLM that sees it."""
