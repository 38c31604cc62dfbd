"""One module per resource: parse, call one service method, answer. No logic of their own."""
