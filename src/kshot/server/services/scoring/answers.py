"""Answers as a model is asked for them: what follows the open end of a prompt."""

from kshot.formatting import Turn


def gap_before_answer(turn: Turn, query: str) -> str:
    """Return what stands between a query and its answer in a demonstration, such as a space.

    Parameters
    ----------
    turn : Turn
        The demonstration.
    query : str
        The same inputs as the open end of a prompt.
    """
    if turn.text.startswith(query):
        between, found, _ = turn.text[len(query) :].partition(turn.output)
        if found and turn.output:
            return between
    return " "
