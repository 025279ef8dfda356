"""Pages for people: what a run has found, put together."""
