"""Parameters of flow runs: checked and converted by pydantic, and turned into JSON for the history.

pydantic is imported when a value first needs it. Values that have exactly the annotated built-in type, and parameters
without an annotation, never do.
"""

from __future__ import annotations

import builtins
import inspect
import sys
import types
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Final, NoReturn, cast, get_args

from callsheet._engine.binding import Binder
from callsheet.exceptions import ParameterTypeError, SignatureMismatchError
from callsheet.utilities.functions import is_pydantic_field, type_hints

if TYPE_CHECKING:
    from callsheet.logging.loggers import EngineAdapter

INCOMPATIBLE: Final = (
    "Flow function is not compatible with `validate_parameters`. Disable validation or change the argument names."
)
_REFUSED_NAMES: Final = frozenset({"v__args", "v__kwargs", "v__positional_only", "v__duplicate_kwargs"})
_EXACT: Final[dict[str, type]] = {t.__name__: t for t in (int, str, float, bool, bytes)} | {"None": type(None)}
_SCALARS: Final = frozenset({int, str, float, bool, bytes, type(None)})
_SAME_IN_JSON: Final = _SCALARS - {bytes}
_ANYTHING: Final = object()  # no annotation, or one that says nothing
_NEEDS_PYDANTIC: Final = object()
_MISSING: Final = object()


def check_signature(signature: inspect.Signature) -> None:
    """Refuse a signature that can never be validated, as far as that can be told without importing pydantic.

    Args:
        signature: The signature of a flow's function.

    Raises:
        ValueError: A parameter has a name that validation uses itself, or its annotation is no type.
    """
    for parameter in signature.parameters.values():
        if parameter.name in _REFUSED_NAMES:
            raise ValueError(f"{INCOMPATIBLE} The name {parameter.name!r} is used by validation itself.")
        if _is_plain_value(parameter.annotation):
            raise ValueError(f"{INCOMPATIBLE} The annotation of {parameter.name!r} is no type.")


def _is_plain_value(annotation: object) -> bool:
    """Tell an object such as `5` from a type; text is a postponed annotation, `None` stands for its type."""
    kind = type(annotation)
    return kind.__module__ == "builtins" and not isinstance(annotation, (type, str, types.NoneType))


class Validator:
    """Checks and converts the parameters of one flow.

    Args:
        flow_name: The flow's name, for the log.
        binder: The binder of its function.
        names: Names that its annotations use and only the scope of its definition knew.
        bound: How many of the first parameters are bound already and not to be looked at.
    """

    __slots__ = ("_adapters", "_binder", "_flow_name", "_hints", "_names", "_plan", "_version_1")

    def __init__(self, flow_name: str, binder: Binder, names: dict[str, Any], bound: int) -> None:
        self._flow_name = flow_name
        self._binder = binder
        self._names = names
        self._hints: dict[str, Any] | None = None
        self._adapters: dict[str, Any] = {}
        parameters = list(binder.signature.parameters.values())
        space = getattr(inspect.unwrap(binder.fn), "__globals__", {})
        self._plan: dict[str, Any] = {p.name: _ANYTHING for p in parameters[:bound]}
        self._plan.update({p.name: _plan(p, space) for p in parameters[bound:]})

    def validate(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """Check and convert parameters.

        Args:
            parameters: Values by name.

        Returns:
            A new dict of what was passed, converted, and of defaults that a factory makes.

        Raises:
            ParameterTypeError: A value does not fit its annotation.
            SignatureMismatchError: There is no parameter of a name.
            ValueError: An annotation is no type.
        """
        plan = self._plan
        simple = len(parameters) == len(plan)
        for name, value in parameters.items():
            expected = plan.get(name)
            if expected is None:
                raise SignatureMismatchError.from_bad_params(self._binder.names, parameters)
            kind = cast("type[Any]", type(value))
            if kind is expected:
                continue
            if expected is not _ANYTHING:
                simple = False
            # Only then can a model of version 1 be about, which changes the rules for all the others.
            if kind not in _SCALARS and simple and "pydantic.v1" in sys.modules:
                simple = False
        return dict(parameters) if simple else self._validate(parameters)

    def _validate(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        hints = self._resolve(parameters)
        given = {name: self._default_of_field(name, value) for name, value in parameters.items()}
        for name in self._binder.names:
            if name not in given and is_pydantic_field(self._binder.defaults.get(name)):
                made = self._default_of_field(name, self._binder.defaults[name])
                if made is _MISSING or self._binder.defaults[name].default_factory is not None:
                    given[name] = made
        if self._uses_version_1(given, hints, parameters):
            return self._validate_version_1(given, hints, parameters)
        valid: dict[str, Any] = {}
        errors: list[str] = []
        for name, value in given.items():
            if value is _MISSING:
                errors.append(f"{name}: Field required")
            elif self._plan[name] in (_ANYTHING, cast("object", type(value))):
                valid[name] = value
            else:
                self._convert(name, value, hints, valid, errors)
        required = [n for n in self._binder.names if n not in given and self._is_required(n)]
        errors.extend(f"{name}: Field required" for name in required)
        if errors:
            self._fail(errors, parameters)
        return valid

    def _is_required(self, name: str) -> bool:
        variable = (self._binder.var_positional, self._binder.var_keyword)
        return name not in self._binder.defaults and name not in variable

    def _default_of_field(self, name: str, value: Any) -> Any:
        """Give what `Field(…)` in the place of a default stands for; other values as they are."""
        if not is_pydantic_field(value) or value is not self._binder.defaults.get(name):
            return value
        return _MISSING if value.is_required() else value.get_default(call_default_factory=True)

    def _resolve(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        if self._hints is None:
            try:
                self._hints = type_hints(self._binder.fn, self._names)
            except NameError as error:
                self._fail([f"annotations: {error}"], parameters)
            for name, hint in self._hints.items():
                if _is_plain_value(hint):
                    raise ValueError(f"{INCOMPATIBLE} The annotation of {name!r} is no type.")
        return self._hints

    def _convert(self, name: str, value: Any, hints: dict[str, Any], valid: dict[str, Any], errors: list[str]) -> None:
        from pydantic import PydanticUserError, ValidationError
        from pydantic_core import SchemaError

        if name not in self._adapters:
            from callsheet.utilities.pydantic_types import adapter_for

            try:
                self._adapters[name] = adapter_for(self._whole_hint(name, hints))
            except (PydanticUserError, SchemaError, TypeError) as error:
                raise ValueError(f"{INCOMPATIBLE} The annotation of {name!r} cannot be used: {error}") from error
        try:
            valid[name] = self._adapters[name].validate_python(value)
        except ValidationError as error:
            found = error.errors(include_url=False, include_context=False, include_input=False)
            errors.extend(f"{'.'.join(map(str, (name, *each['loc'])))}: {each['msg']}" for each in found)

    def _whole_hint(self, name: str, hints: dict[str, Any]) -> Any:
        hint = hints.get(name, Any)
        if name == self._binder.var_positional:
            return tuple[hint, ...]
        if name == self._binder.var_keyword:
            return dict[str, hint]
        default = self._binder.defaults.get(name)
        return Annotated[hint, default] if is_pydantic_field(default) else hint

    # -------------------------------------------------------------------------------- models of version 1

    def _uses_version_1(self, given: Mapping[str, Any], hints: Mapping[str, Any], shown: Mapping[str, Any]) -> bool:
        version_1 = sys.modules.get("pydantic.v1")
        if version_1 is None:
            return False
        types_used: set[type[Any]] = {type(value) for value in given.values()}
        for hint in hints.values():
            types_used |= _classes_in(hint)
        if not any(issubclass(cls, version_1.BaseModel) for cls in types_used):
            return False
        if any(_is_version_2(cls) for cls in types_used):
            self._fail(["Cannot mix Pydantic v1 and v2 types as arguments to a flow."], shown, whole=True)
        return True

    def _validate_version_1(
        self, given: Mapping[str, Any], hints: Mapping[str, Any], shown: Mapping[str, Any]
    ) -> dict[str, Any]:
        from pydantic.v1 import BaseConfig, BaseModel, ValidationError
        from pydantic.v1.fields import ModelField

        config = type("Config", (BaseConfig,), {"arbitrary_types_allowed": True})
        valid: dict[str, Any] = {}
        errors: list[Any] = []
        for name, value in given.items():
            hint = self._whole_hint(name, dict(hints))
            field = ModelField(name=name, type_=hint, class_validators=None, model_config=config, required=True)
            valid[name], found = field.validate(value, {}, loc=name)
            if found:
                errors.append(found)
        if errors:
            failed = ValidationError(errors, BaseModel)
            self._fail([f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in failed.errors()], shown)
        return valid

    def _fail(self, errors: list[str], parameters: Mapping[str, Any], *, whole: bool = False) -> NoReturn:
        text = errors[0] if whole else "Flow run received invalid parameters:\n - " + "\n - ".join(errors)
        from callsheet._model.values import represent

        _log().error(
            "Parameter validation failed for flow '%s': %s\nParameters: %s",
            self._flow_name,
            "; ".join(errors),
            represent(dict(parameters)),
        )
        raise ParameterTypeError(text)


def _log() -> EngineAdapter:
    from callsheet.logging.loggers import engine_log  # a quarter of what a program's start costs

    return engine_log("callsheet.flows")


def _plan(parameter: inspect.Parameter, space: Mapping[str, Any]) -> object:
    """Tell what a value may be without a look by pydantic."""
    annotation = parameter.annotation
    if is_pydantic_field(parameter.default):
        return _NEEDS_PYDANTIC
    if annotation is inspect.Parameter.empty or annotation in (Any, "Any", "typing.Any", object):
        return _ANYTHING
    if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
        return _NEEDS_PYDANTIC
    if isinstance(annotation, str):
        found = _EXACT.get(annotation)
        shadowed = annotation in space and space[annotation] is not getattr(builtins, annotation, None)
        return found if found is not None and not shadowed else _NEEDS_PYDANTIC
    if annotation is None:
        return type(None)
    return annotation if annotation in _SCALARS else _NEEDS_PYDANTIC


def _classes_in(hint: Any) -> set[type[Any]]:
    found: set[type[Any]] = {hint} if inspect.isclass(hint) and not isinstance(hint, types.GenericAlias) else set()
    for argument in get_args(hint):
        found |= _classes_in(argument)
    return found


def _is_version_2(cls: type[Any]) -> bool:
    if cls.__module__.startswith(("pydantic.types", "pydantic.networks", "pydantic_core")):
        return True
    pydantic = sys.modules.get("pydantic")
    return pydantic is not None and issubclass(cls, pydantic.BaseModel)


def serialize_parameters(flow_name: str, parameters: Mapping[str, Any], skipped: str | None = None) -> dict[str, Any]:
    """Turn parameters into what JSON can carry.

    Args:
        flow_name: The flow's name, for the log.
        parameters: Values by name.
        skipped: A parameter to leave out: the instance of a method.

    Returns:
        Converted values by name. A future, a state, or a value that has no such form becomes ``<TypeName>``.
    """
    from callsheet._model.states import State
    from callsheet.utilities.jsonable import to_jsonable

    futures = sys.modules.get("callsheet.futures")
    opaque = (State,) if futures is None else (State, futures.TaskFuture)
    serialized: dict[str, Any] = {}
    for name, value in parameters.items():
        if type(value) in _SAME_IN_JSON:
            serialized[name] = value
            continue
        if name == skipped:
            continue
        kind = type(value).__name__
        if isinstance(value, opaque):
            serialized[name] = f"<{kind}>"
            continue
        try:
            serialized[name] = to_jsonable(value)
        except Exception:  # what it says of itself is code of its own, and no reason for a run to fail
            _log().debug("Parameter %r for flow %r is unserializable. Type %r.", name, flow_name, kind)
            serialized[name] = f"<{kind}>"
    return serialized
