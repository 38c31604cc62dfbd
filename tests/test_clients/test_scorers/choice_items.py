"""Two hundred multiple-choice questions of our own, the same at every call."""

import itertools
import random
from pathlib import Path
from typing import Any

_NUMBERS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven"]
_MONTHS = [
    *("January", "February", "March", "April", "May", "June", "July", "August", "September", "October"),
    *("November", "December"),
]
_DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
_CAPITALS = {
    "France": "Paris",
    "Italy": "Rome",
    "Spain": "Madrid",
    "Japan": "Tokyo",
    "Egypt": "Cairo",
    "Germany": "Berlin",
    "Russia": "Moscow",
    "China": "Beijing",
    "Greece": "Athens",
    "Cuba": "Havana",
    "Portugal": "Lisbon",
    "Austria": "Vienna",
    "Poland": "Warsaw",
    "Norway": "Oslo",
    "Peru": "Lima",
    "Ireland": "Dublin",
    "Kenya": "Nairobi",
    "Thailand": "Bangkok",
    "Iran": "Tehran",
    "Iraq": "Baghdad",
}
_OPPOSITES = {
    "hot": "cold",
    "big": "small",
    "early": "late",
    "open": "closed",
    "rich": "poor",
    "dry": "wet",
    "heavy": "light",
    "strong": "weak",
    "young": "old",
    "full": "empty",
    "near": "far",
    "loud": "quiet",
    "happy": "sad",
    "fast": "slow",
    "clean": "dirty",
    "cheap": "expensive",
    "deep": "shallow",
}
_SOUNDS = {
    "dog": "barks",
    "cat": "meows",
    "cow": "moos",
    "duck": "quacks",
    "lion": "roars",
    "snake": "hisses",
}


def choice_items(count: int = 200) -> list[dict[str, Any]]:
    """Return items: ``input``, a question; four ``options``; ``answer``, the place of the right one."""
    rng = random.Random(20)
    facts: list[tuple[str, str, list[str]]] = [
        *((f"Which month comes after {a}?", b, _MONTHS) for a, b in _pairs(_MONTHS)),
        *((f"Which month comes before {b}?", a, _MONTHS) for a, b in _pairs(_MONTHS)),
        *((f"Which day comes after {a}?", b, _DAYS) for a, b in _pairs(_DAYS)),
        *((f"Which day comes before {b}?", a, _DAYS) for a, b in _pairs(_DAYS)),
        *((f"What is the capital of {a}?", b, list(_CAPITALS.values())) for a, b in _CAPITALS.items()),
        *((f"{b} is the capital of which country?", a, list(_CAPITALS)) for a, b in _CAPITALS.items()),
        *((f"What is the opposite of {a}?", b, list(_OPPOSITES.values())) for a, b in _OPPOSITES.items()),
        *((f"What is the opposite of {b}?", a, list(_OPPOSITES)) for a, b in _OPPOSITES.items()),
        *(
            (f"What does a {a} do?", f"it {b}", [f"it {c}" for c in _SOUNDS.values()])
            for a, b in _SOUNDS.items()
        ),
        *(
            (f"How much is {_NUMBERS[a]} plus {_NUMBERS[b]}?", _NUMBERS[a + b], _NUMBERS)
            for a in range(1, 11)
            for b in range(1, 12 - a)
        ),
        *(
            (f"How much is {_NUMBERS[a]} minus {_NUMBERS[b]}?", _NUMBERS[a - b], _NUMBERS)
            for a in range(1, 12)
            for b in range(1, a + 1)
        ),
    ]
    items: list[dict[str, Any]] = []
    for question, right, pool in facts[:count]:
        wrong = rng.sample([one for one in pool if one != right], 3)
        options = rng.sample([right, *wrong], 4)
        items.append({"input": question, "options": options, "answer": options.index(right)})
    assert len(items) == count, len(items)
    return items


def processor() -> str:
    """Name this machine's processor: others round half precision in their own ways."""
    lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown"
    )


def _pairs(names: list[str]) -> list[tuple[str, str]]:
    return list(itertools.pairwise(names))
