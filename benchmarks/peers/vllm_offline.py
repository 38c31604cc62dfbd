"""vLLM in its own process, asked over pipes: what `benchmarks/scoring.py` holds kshot's requests against.

Runs in the environment of `make vllm`. The first line of standard input is {"model", "arguments"}; every
further one is {"prompts": [[id, ...], ...], "prompt_logprobs": 0 or null} and is answered, on the last line
of standard output so far, by {"seconds", "sums"}: how long one call of `LLM.generate` took, and the sum of
what it says of each prompt's tokens.
"""

import json
import os
import sys
import time


def main() -> None:
    """Answer until standard input ends."""
    # vLLM writes to standard output: the answers keep the real one to themselves.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    from vllm import LLM, SamplingParams, TokensPrompt  # after the output is kept

    job = json.loads(sys.stdin.readline())
    engine = LLM(job["model"], **job["arguments"])
    answers.write(json.dumps({"ready": True}) + "\n")
    answers.flush()
    for line in sys.stdin:
        asked = json.loads(line)
        prompts = [TokensPrompt(prompt_token_ids=ids) for ids in asked["prompts"]]
        sampling = SamplingParams(
            temperature=0, max_tokens=1, prompt_logprobs=asked["prompt_logprobs"], detokenize=False
        )
        started = time.perf_counter()
        outputs = engine.generate(prompts, sampling, use_tqdm=False)
        seconds = time.perf_counter() - started
        sums = [_sum(output) for output in outputs] if asked["prompt_logprobs"] is not None else []
        answers.write(json.dumps({"seconds": seconds, "sums": sums}) + "\n")
        answers.flush()


def _sum(output) -> float:
    entries = zip(output.prompt_token_ids[1:], output.prompt_logprobs[1:], strict=True)
    return sum(entry[token].logprob for token, entry in entries)


if __name__ == "__main__":  # vLLM starts processes that read this file again
    main()
