"""How a toy server may misbehave; every switch is something that real ones were seen to do."""

from dataclasses import dataclass


@dataclass(slots=True)
class Faults:
    """Switches of a `ToyCompletionServer`; all off. They may be turned while it runs.

    Attributes
    ----------
    down : bool
        Connections are refused; only through `ToyCompletionServer.transport`.
    delay_s : float
        Wait this long before each completion.
    too_many, unavailable, internal : int
        Answer that many completion requests with 429, 503 and 500.
    truncated_json : int
        Cut that many completion answers in the middle.
    poison_token : int or None
        A request fails with 500 if any of its prompts has this token, as one with a NaN does.
    shuffled_choices : bool
        Choices come in another order than the prompts; their ``index`` is right.
    null_prompt_logprobs : bool
        ``prompt_logprobs`` (and what echo gives of the prompt) is ``[null]``.
    shifted_prompt_logprobs : bool
        Without the leading null: every entry is one too early.
    double_bos : bool
        ``<s>`` is put before prompts given as ids as well.
    corrupt_prompt_logprobs : bool
        Log-probabilities of prompts are wrong, those of next tokens right.
    fails_at_block_edges : bool
        Prompts whose length is a multiple of 16 lose their last entry when asked a second time.
    constant_nats : float or None
        Every log-probability is this one.
    inflated_nats : float
        Added to every log-probability: they sum to more than 1.
    noise_nats : float
        Every prompt of a request but the first gets this much noise, as other batches do.
    processed_logprobs : bool
        Log-probabilities are taken after temperature and masks.
    max_logprobs : int
        More are refused.
    ignores_logprob_token_ids : bool
        The field is not known: only the top ``logprobs`` come back.
    ignores_prompt_logprobs : bool
        The field is not known: only echo tells about prompts.
    refuses_no_tokens : bool
        ``max_tokens: 0`` is an error.
    ignores_token_id_names : bool
        Tokens are named by their text whatever was asked.
    no_tokenizer : bool
        ``/tokenize`` and ``/detokenize`` do not exist.
    no_render : bool
        ``/v1/completions/render`` does not exist.
    no_chat_template : bool
        ``/tokenize`` refuses messages.
    """

    down: bool = False
    delay_s: float = 0.0
    too_many: int = 0
    unavailable: int = 0
    internal: int = 0
    truncated_json: int = 0
    poison_token: int | None = None
    shuffled_choices: bool = False
    null_prompt_logprobs: bool = False
    shifted_prompt_logprobs: bool = False
    double_bos: bool = False
    corrupt_prompt_logprobs: bool = False
    fails_at_block_edges: bool = False
    constant_nats: float | None = None
    inflated_nats: float = 0.0
    noise_nats: float = 0.0
    processed_logprobs: bool = False
    max_logprobs: int = 20
    ignores_logprob_token_ids: bool = False
    ignores_prompt_logprobs: bool = False
    refuses_no_tokens: bool = False
    ignores_token_id_names: bool = False
    no_tokenizer: bool = False
    no_render: bool = False
    no_chat_template: bool = False

    def next_status(self) -> int | None:
        """Return the error status that the next request gets, and count it off; None for none."""
        for name, status in (("too_many", 429), ("unavailable", 503), ("internal", 500)):
            left = getattr(self, name)
            if left > 0:
                setattr(self, name, left - 1)
                return status
        return None
