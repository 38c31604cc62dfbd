"""The command line: one module per group of commands, all of them thin over the SDK."""
