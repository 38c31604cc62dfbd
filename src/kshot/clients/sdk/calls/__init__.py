"""The HTTP interface as pure functions: one per request, from Python arguments to a `Call`.

Nothing here touches a socket. A `Call` says what is sent and how the answer is read; the clients carry it
out. The docstrings are those of the clients' methods.
"""
