"""The Python SDK: three clients of one surface over calls and flows that do no I/O."""
