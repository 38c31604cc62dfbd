"""The requests of the page on deciding, sent one after another, get the answers that stand there."""

import json
import re
from pathlib import Path
from typing import Any

from tests.test_server.live import running

PAGE = Path(__file__).parents[2] / "docs" / "deciding.md"


def says(answer: Any, shown: Any) -> bool:
    """Tell whether an answer holds what is shown of it."""
    if isinstance(shown, dict):
        return all(key in answer and says(answer[key], value) for key, value in shown.items())
    if isinstance(shown, list):
        return len(answer) == len(shown) and all(map(says, answer, shown))
    return bool(answer == shown)


def test_the_requests_on_the_page_get_the_answers_that_stand_below_them(tmp_path):
    blocks = re.findall(
        r"^```(http|json)\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )
    assert [kind for kind, _ in blocks].count("json") >= 4
    answer: Any = None
    with running(tmp_path) as live:
        for kind, text in blocks:
            if kind == "json":
                assert says(answer, json.loads(text)), (text, answer)
                continue
            first, _, body = text.partition("\n")
            method, path = first.split()
            response = live.http.request(method, path, json=json.loads(body) if body.strip() else None)
            assert response.status_code in {200, 201}, response.text
            answer = response.json()
