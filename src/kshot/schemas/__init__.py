"""The JSON vocabulary: pydantic models shared by server and SDK, and nothing else."""
