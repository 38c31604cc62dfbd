"""A tokenizer from a file in place of a server's: only where both are the same, token for token."""

import asyncio
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from kshot.clients.scorers.endpoint import Rejected
from kshot.clients.scorers.server_tokenizer import ServerTokenizer
from kshot.clients.scorers.tokenization import Decode, Encode
from kshot.clients.scorers.tokenizer_file import FileTokenizer, found_beside
from kshot.errors import InvalidParameter

TEXTS = ["the capital of France is Paris", "never say never", "Größe 東京 def f(x): return x**2"] * 3


def trained(folder: Path, *, merges: int, begins: bool = True, taught: tuple[str, ...] = ()) -> Path:
    """Write a byte-level tokenizer with so many merges, which begins texts with <s> if ``begins`` is set.

    ``taught`` are markers that it got afterwards, as chat models do.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=257 + merges,
        special_tokens=["<s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    if begins:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A", special_tokens=[("<s>", tokenizer.token_to_id("<s>"))]
        )
    tokenizer.add_special_tokens(list(taught))
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


class TokenizingBackend:
    """A server that tokenises by a file, and counts how often it is asked; with None it refuses."""

    kind = "stub"

    def __init__(self, folder: Path | None) -> None:
        self._tokenizer = None if folder is None else FileTokenizer(folder)
        self.asked = 0

    async def post(self, path: str, body: Mapping[str, Any], **_: Any) -> Any:
        self.asked += 1
        if self._tokenizer is None:
            raise Rejected(404, "no such path")
        if path == "/tokenize":
            ids = self._tokenizer.encode(body["prompt"], add_special_tokens=body["add_special_tokens"])
            return {"tokens": list(ids)}
        return {"prompt": self._tokenizer.decode(body["tokens"])}


async def answers(tokenizer: ServerTokenizer) -> list[Any]:
    return await tokenizer.answer([Encode("the capital", special=True), Encode(" of"), Decode((5, 6, 7))])


async def test_the_same_tokenizer_spares_every_request(tmp_path: Path) -> None:
    folder = trained(tmp_path / "a", merges=40)
    backend = TokenizingBackend(folder)
    asked, local = ServerTokenizer(backend), ServerTokenizer(backend)  # type: ignore[arg-type]  # what it uses
    wanted = await answers(asked)
    assert await local.use(FileTokenizer(folder))
    before = backend.asked
    assert await answers(local) == wanted
    assert backend.asked == before


@pytest.mark.parametrize(
    "other",
    [
        {"merges": 20},
        {"merges": 40, "begins": False},
        {"merges": 40, "taught": ("<|im_start|>", "<|im_end|>")},
    ],
)
async def test_another_tokenizer_is_found_out_and_not_used(tmp_path: Path, other: dict[str, Any]) -> None:
    backend = TokenizingBackend(trained(tmp_path / "a", merges=40))
    tokenizer = ServerTokenizer(backend)  # type: ignore[arg-type]  # what it uses
    assert not await tokenizer.use(FileTokenizer(trained(tmp_path / "b", **other)), unseen=True)
    before = backend.asked
    await answers(tokenizer)
    assert backend.asked == before + 3


class Gate:
    """A tokenizer that finishes no text before it is let."""

    def __init__(self, folder: Path) -> None:
        self._tokenizer = FileTokenizer(folder)
        self.begun, self.let = threading.Event(), threading.Event()
        self.let.set()

    def encode(self, text: str, *, add_special_tokens: bool) -> Sequence[int]:
        self.begun.set()
        assert self.let.wait(30)
        return self._tokenizer.encode(text, add_special_tokens=add_special_tokens)

    def decode(self, ids: Sequence[int]) -> str:
        return self._tokenizer.decode(ids)


async def test_a_long_text_does_not_hold_up_the_event_loop(tmp_path: Path) -> None:
    folder = trained(tmp_path / "a", merges=40)
    tokenizer, gate = ServerTokenizer(TokenizingBackend(folder)), Gate(folder)  # type: ignore[arg-type]
    assert await tokenizer.use(gate)
    gate.let.clear()
    gate.begun.clear()
    asked = asyncio.create_task(tokenizer.answer([Encode("never say never")]))
    assert await asyncio.to_thread(gate.begun.wait, 30)
    # It is at work, and this goes on.
    assert not asked.done()
    gate.let.set()
    assert await asked == [tuple(FileTokenizer(folder).encode("never say never", add_special_tokens=False))]


async def test_answers_of_the_model_before_are_not_taken_for_those_of_the_next(tmp_path: Path) -> None:
    """The first model answers late, after it was found that there is another one."""
    begun, late = asyncio.Event(), asyncio.Event()
    first, second = (TokenizingBackend(trained(tmp_path / str(n), merges=n)) for n in (20, 40))

    class Replaced:
        kind = "stub"
        now = first

        async def post(self, path: str, body: Mapping[str, Any], **_: Any) -> Any:
            asked_of = self.now
            answer = await asked_of.post(path, body)
            if asked_of is first:
                begun.set()
                await late.wait()
            return answer

    backend = Replaced()
    tokenizer = ServerTokenizer(backend)  # type: ignore[arg-type]  # what it uses
    text = Encode("the capital of France")
    under_way = asyncio.create_task(tokenizer.answer([text]))
    await begun.wait()
    backend.now = second
    tokenizer.forget()
    late.set()
    (before,) = await under_way
    (after,) = await tokenizer.answer([text])
    assert before != after
    assert [after] == await ServerTokenizer(second).answer([text])  # type: ignore[arg-type]  # what it uses


async def test_a_server_that_does_not_tokenise_needs_a_given_one(tmp_path: Path) -> None:
    folder = trained(tmp_path / "a", merges=40)
    silent = ServerTokenizer(TokenizingBackend(None))  # type: ignore[arg-type]  # what it uses
    assert not await silent.use(FileTokenizer(folder))
    assert not await silent.is_there()
    assert await silent.use(FileTokenizer(folder), unseen=True)
    assert await silent.is_there()
    assert await answers(silent) == await answers(
        ServerTokenizer(TokenizingBackend(folder))  # type: ignore[arg-type]  # what it uses
    )
    # Another model may answer next: what is known of this one's tokens ends with it.
    silent.forget()
    assert not await silent.is_there()


def test_a_model_on_this_machine_brings_its_tokenizer(tmp_path: Path) -> None:
    folder = trained(tmp_path / "model", merges=20)
    found = found_beside(str(folder))
    assert found is not None
    assert found.decode(found.encode("never say", add_special_tokens=False)) == "never say"
    assert found_beside("HuggingFaceTB/SmolLM2-135M-Instruct") is None
    assert found_beside(str(tmp_path / "elsewhere")) is None
    # A place that cannot even be looked at.
    assert found_beside("/" + "x" * 300) is None
    (folder / "tokenizer.json").write_text("{}", "utf-8")
    assert found_beside(str(folder)) is None


@pytest.mark.parametrize("content", [None, "{", "{}"])
def test_a_file_that_is_no_tokenizer_is_named(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "tokenizer.json").write_text(content, "utf-8")
    with pytest.raises(InvalidParameter, match=r"tokenizer\.json cannot be read"):
        FileTokenizer(tmp_path)


async def test_decoding_spells_markers_out(tmp_path: Path) -> None:
    tokenizer = FileTokenizer(trained(tmp_path, merges=20))
    ids = tokenizer.encode("never", add_special_tokens=True)
    assert tokenizer.decode(ids) == "<s>never"
