"""Turn texts into vectors: by a packaged or local model, an endpoint, hashing, or the caller's own."""
