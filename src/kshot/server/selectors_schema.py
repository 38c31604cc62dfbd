"""Parameters of selectors over the wire: their JSON schema, and building a selector from JSON.

A selector is a plain frozen dataclass that knows nothing of pydantic; the model is derived from its fields
and the metadata of `kshot.selectors.base.parameter`.
"""

import inspect
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields
from functools import cache
from typing import Any, get_type_hints

from pydantic import BaseModel, ConfigDict, ValidationError, create_model
from pydantic import Field as ModelField

from kshot.errors import InvalidParameter
from kshot.schemas.selections import SelectorInfo
from kshot.selectors import SELECTORS, Selector
from kshot.server.validation import field_errors

_STRICT = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)
POINTER = "/method"


def build_selector(name: str, params: Mapping[str, Any]) -> Selector:
    """Return the selector ``name`` with these hyper-parameters; the others keep their defaults.

    Parameters
    ----------
    name : str
        As registered in `kshot.selectors.SELECTORS`.
    params : mapping
        Parsed JSON, without ``type``.

    Raises
    ------
    UnknownSelector
        The message lists the names that exist.
    InvalidParameter
        Names each refused parameter, ``/method/<name>``, with what was received and what is allowed.
    """
    selector: Selector = built(name, SELECTORS.get(name), params)
    return selector


def built(name: str, cls: Any, params: Mapping[str, Any]) -> Any:
    """Return an instance of a registered class; raises as `build_selector`."""
    values = dict(params)
    try:
        model = parameter_model(cls).model_validate(values)
    except ValidationError as error:
        refused = field_errors(error, parameter_model(cls), values, prefix=POINTER)
        text = "; ".join(f"{item.pointer.removeprefix(POINTER + '/')} {item.message}" for item in refused)
        raise InvalidParameter(f"method {name!r}: {text}", errors=refused) from None
    return cls(**{key: getattr(model, key) for key in model.model_fields_set})


@cache
def parameter_model(cls: type[Any]) -> type[BaseModel]:
    """Derive the pydantic model of a selector's hyper-parameters."""
    hints = get_type_hints(cls)
    # In the order of the constructor, which has what a method shares with others last.
    items = sorted((item for item in fields(cls) if item.init), key=lambda item: bool(item.kw_only))
    definitions: dict[str, Any] = {item.name: (hints[item.name], _model_field(item)) for item in items}
    return create_model(cls.__name__, __config__=_STRICT, **definitions)


def _model_field(item: Field[Any]) -> Any:
    bounds = {key: item.metadata[key] for key in ("ge", "gt", "le") if item.metadata.get(key) is not None}
    described = {"description": item.metadata.get("description"), **bounds}
    if item.default_factory is not MISSING:
        return ModelField(default_factory=item.default_factory, **described)
    return ModelField(default=... if item.default is MISSING else item.default, **described)


def selector_infos() -> list[SelectorInfo]:
    """Describe every registered selector, in the order of their names."""
    return [_info(name) for name in SELECTORS.names()]


@cache
def _info(name: str) -> SelectorInfo:
    cls = SELECTORS.get(name)
    return SelectorInfo(
        name=name,
        summary=(inspect.getdoc(cls) or "").partition("\n")[0],
        parameters=parameter_model(cls).model_json_schema(),
        needs=sorted(cls().needs),
    )
