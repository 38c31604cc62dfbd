"""A sentence-transformers model as one torch module. Imports torch: import it inside functions only."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from torch.nn.functional import normalize

from kshot.arrays import Float32s
from kshot.clients.embedders.model_files import ModelFacts
from kshot.errors import InvalidInput

_LONGEST_WINDOW = 2048


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model in memory, with what the embedder has to know about it."""

    transformer: Any
    facts: ModelFacts
    tokenizer_json: str
    pipeline: "Pipeline"


class Pipeline(torch.nn.Module):  # type: ignore[misc]  # torch is untyped here, see pyproject
    """Token ids in; the normalised sentence vector and every layer's normalised hidden states out."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.encoder = model[0].auto_model
        self.heads = torch.nn.ModuleList(list(model)[1:])

    def forward(self, input_ids: Any, attention_mask: Any) -> tuple[Any, ...]:
        """Return (b, d) sentence vectors, then per layer (b, t, d_t), layer 0 being the embedding layer."""
        output = self.encoder(
            input_ids=input_ids, attention_mask=attention_mask, output_hidden_states=True, return_dict=True
        )
        features = {
            "input_ids": input_ids,
            "attention_mask": attention_mask,
            "token_embeddings": output.last_hidden_state,
        }
        for head in self.heads:
            features = head(features)
        sentence = normalize(features["sentence_embedding"], dim=-1)
        return (sentence, *(normalize(state, dim=-1) for state in output.hidden_states))


def load(folder: Path) -> LoadedModel:
    """Load a model from its folder, on the CPU, in float32.

    Raises
    ------
    InvalidInput
        The folder holds no text transformer with a fast tokenizer.
    """
    try:
        model = SentenceTransformer(str(folder), device="cpu").eval().float()
        # A pool's embed template is where prefixes belong; a hidden second place would apply them twice.
        model.default_prompt_name = None
        pipeline = Pipeline(model).eval()
        tokenizer = model.tokenizer
        serialised = tokenizer.backend_tokenizer.to_str()
        with torch.inference_mode():
            sentence, *layers = pipeline(
                torch.zeros((1, 2), dtype=torch.long), torch.ones((1, 2), dtype=torch.long)
            )
    except (AttributeError, KeyError, OSError, RuntimeError, TypeError, ValueError) as error:
        raise InvalidInput(f"{folder} is not a usable sentence-transformers text model: {error}") from error
    if not tokenizer("")["input_ids"]:
        raise InvalidInput(f"{folder} has a tokenizer without markers, so that an empty text has no tokens")
    facts = ModelFacts(
        dimension=int(sentence.shape[-1]),
        token_dimension=int(layers[-1].shape[-1]),
        layers=len(layers) - 1,
        max_tokens=min(int(model.max_seq_length or 512), _LONGEST_WINDOW),
        pad_id=int(tokenizer.pad_token_id or 0),
    )
    return LoadedModel(model, facts, serialised, pipeline)


class TorchEngine:
    """Runs a `Pipeline` by torch itself: what remains when a model cannot be exported faithfully.

    ``threads`` holds for the whole process, as torch has no narrower setting.
    """

    name = "torch"

    def __init__(self, pipeline: Pipeline, threads: int) -> None:
        torch.set_num_threads(threads)
        self._pipeline: Pipeline | None = pipeline

    def run(
        self, input_ids: NDArray[Any], attention_mask: NDArray[Any], layers: Sequence[int]
    ) -> tuple[Float32s, list[Float32s]]:
        """Return sentence vectors (b, d) and, for each layer, token vectors (b, t, d_t)."""
        if self._pipeline is None:
            raise RuntimeError("the embedder is closed")
        with torch.inference_mode():
            sentence, *states = self._pipeline(torch.from_numpy(input_ids), torch.from_numpy(attention_mask))
        return sentence.numpy(), [states[layer].numpy() for layer in layers]

    def close(self) -> None:
        """Drop the model."""
        self._pipeline = None
