"""A tokenizer from a file in place of a server's: only where both are the same, token for token."""

from collections.abc import Mapping
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


def trained(folder: Path, *, merges: int, begins: bool = True) -> Path:
    """Write a byte-level tokenizer with so many merges, which begins texts with <s> if ``begins`` is set."""
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


@pytest.mark.parametrize("other", [{"merges": 20}, {"merges": 40, "begins": False}])
async def test_another_tokenizer_is_found_out_and_not_used(tmp_path: Path, other: dict[str, Any]) -> None:
    backend = TokenizingBackend(trained(tmp_path / "a", merges=40))
    tokenizer = ServerTokenizer(backend)  # type: ignore[arg-type]  # what it uses
    assert not await tokenizer.use(FileTokenizer(trained(tmp_path / "b", **other)), unseen=True)
    before = backend.asked
    await answers(tokenizer)
    assert backend.asked == before + 3


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
