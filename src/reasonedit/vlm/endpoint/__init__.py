"""A VLM behind an endpoint that speaks OpenAI's protocol: it answers there, and what sees for its keys runs here."""
