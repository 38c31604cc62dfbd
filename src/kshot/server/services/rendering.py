"""From a selection to a prompt that is ready to be sent."""

from kshot.formatting import Prompt
from kshot.records import Content
from kshot.schemas.selections import Message, RenderReply, RenderRequest
from kshot.server.services.answering import Answer
from kshot.server.services.runtime import PoolRuntime


def rendered(runtime: PoolRuntime, request: RenderRequest, inputs: Content, made: Answer) -> RenderReply:
    """Lay out demonstrations and query as the request's format and style say."""
    frame = made.reply.frame
    prompt = Prompt(
        turns=[one.turn for one in made.chosen],
        query=runtime.templates.query(inputs),
        system=None if frame is None else frame.system,
        separator=runtime.templates.separator,
    )
    text = prompt.text()
    messages = None
    if request.format != "text":
        is_anthropic = request.format == "anthropic"
        parts = prompt.conversation(request.style) if is_anthropic else prompt.messages(request.style)
        messages = [Message.model_validate(part) for part in parts]
    return RenderReply(
        selection=made.reply,
        messages=messages,
        system=prompt.system if request.format == "anthropic" else None,
        text=text if request.format == "text" else None,
        tokens=int(runtime.tokenizer.count([text])[0]),
        estimated=not runtime.tokenizer.exact,
    )
