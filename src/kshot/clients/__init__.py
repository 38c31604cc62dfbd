"""Who we talk to (embedders, tokenizers) and who talks to us (SDK, command line)."""
