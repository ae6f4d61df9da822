"""Typed input of flow runs: what a paused run asks for, and what runs send each other."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar, Generic, Self, TypeVar
from uuid import UUID

from pydantic import BaseModel, ConfigDict, PrivateAttr, create_model

from callsheet._engine import run_inputs
from callsheet._engine.dual import dual
from callsheet._engine.pausing import keyset
from callsheet._ids import new_id
from callsheet._model.runs import FlowRunInput
from callsheet._model.states import State
from callsheet.input import actions
from callsheet.input.handlers import InputHandler, word

T = TypeVar("T")
Keyset = dict[str, str]

__all__ = [
    "AutomaticRunInput",
    "InputHandler",
    "Keyset",
    "RunInput",
    "RunInputMetadata",
    "asend_input",
    "keyset_from_base_key",
    "keyset_from_paused_state",
    "receive_input",
    "run_input_subclass_from_type",
    "send_input",
]


def keyset_from_base_key(base_key: str) -> Keyset:
    """Give the keys under which the parts of one question are stored.

    Args:
        base_key: What they begin with.

    Returns:
        The keys of its ``description``, ``response`` and ``schema``.

    Example:
        >>> keyset_from_base_key("paused-1")["schema"]
        'paused-1-schema'
    """
    return keyset(base_key)


def keyset_from_paused_state(state: State[Any]) -> Keyset:
    """Give the keys that belong to a paused state.

    Args:
        state: Paused or Suspended, with its key.

    Raises:
        RuntimeError: It is no such state.

    Example:
        >>> from callsheet.states import Suspended
        >>> keyset_from_paused_state(Suspended(pause_key="1"))["response"]
        'suspended-1-response'
    """
    if not state.is_paused():
        raise RuntimeError(f"{state.type.value} is unsupported.")
    return keyset(f"{state.name.lower()}-{state.state_details.pause_key}")


class RunInputMetadata(BaseModel):
    """Where an input comes from.

    Attributes:
        key: Its key.
        sender: Who sent it, if anybody said so.
        receiver: The flow run that it was sent to.
    """

    key: str
    sender: str | None = None
    receiver: UUID


class BaseRunInput(BaseModel):
    """What `RunInput` and `AutomaticRunInput` have in common."""

    model_config = ConfigDict(extra="forbid")
    __question__: ClassVar[str | None] = None
    _metadata: RunInputMetadata | None = PrivateAttr(default=None)

    @property
    def metadata(self) -> RunInputMetadata | None:
        """Give where this input comes from; `None` for one that was made here."""
        return self._metadata

    def unwrapped(self) -> Any:
        """Give what the body of a flow gets."""
        return self

    @classmethod
    def keyset_from_type(cls) -> Keyset:
        """Give the keys that are named after this class."""
        return keyset(word(cls.__name__))

    @classmethod
    async def asave(cls, keyset: Keyset, flow_run_id: UUID | None = None) -> None:
        """Store the question (this class's schema) for a flow run.

        Args:
            keyset: Under which keys.
            flow_run_id: The flow run. Default: the current one.
        """
        for part, text in Question(cls).entries().items():
            await actions.acreate_flow_run_input(keyset[part], run_inputs.from_json(text), flow_run_id)

    @classmethod
    async def aload(cls, keyset: Keyset, flow_run_id: UUID | None = None) -> Any:
        """Read the answer; without one, the defaults.

        Args:
            keyset: Under which keys.
            flow_run_id: The flow run. Default: the current one.

        Raises:
            ValidationError: It does not fit.
        """
        run_id = actions.the_flow_run(flow_run_id)
        value = await actions.aread_flow_run_input(keyset["response"], run_id)
        made = cls.model_validate(value or {})
        made._metadata = RunInputMetadata(key=keyset["response"], sender=None, receiver=run_id)
        return made

    @classmethod
    def load_from_flow_run_input(cls, flow_run_input: FlowRunInput) -> Any:
        """Make an input of what is stored.

        Args:
            flow_run_input: As `filter_flow_run_input` gives it.

        Raises:
            ValidationError: It does not fit.
        """
        made = cls.model_validate_json(flow_run_input.value)
        made._metadata = RunInputMetadata(
            key=flow_run_input.key, sender=flow_run_input.sender, receiver=flow_run_input.flow_run_id
        )
        return made

    @classmethod
    def with_initial_data(cls, description: str | None = None, **kwargs: Any) -> type[Self]:
        """Give a class with these defaults, and a description for people.

        Args:
            description: What is asked for.
            **kwargs: Defaults of fields.

        Raises:
            ValueError: There is no such field.

        Example:
            >>> class Order(RunInput):
            ...     amount: int
            >>> Order.with_initial_data(amount=3)().amount
            3
        """
        if unknown := sorted(set(kwargs) - set(cls.model_fields)):
            known = ", ".join(cls.model_fields) or "none"
            raise ValueError(f"{cls.__name__} has no field {', '.join(unknown)}; its fields are: {known}.")
        fields: dict[str, Any] = {
            name: (cls.model_fields[name].annotation, default) for name, default in kwargs.items()
        }
        made = create_model(cls.__name__, __base__=cls, **fields)
        made.__question__ = description
        return made

    async def arespond(self, run_input: Any, sender: str | None = None, key_prefix: str | None = None) -> None:
        """Send something back to the flow run that sent this.

        Args:
            run_input: A `RunInput`, or a value of any type that JSON can hold.
            sender: In whose name. Default: the current flow run.
            key_prefix: What its key begins with. Default: the name of its type.

        Raises:
            RuntimeError: This was not sent by a flow run.
        """
        sent_by = None if self._metadata is None else self._metadata.sender
        if sent_by is None:
            raise RuntimeError("Cannot respond to an input without a sender.")
        if not sent_by.startswith(run_inputs.SENDER):
            raise RuntimeError(f"Cannot respond to {sent_by!r}: only flow runs can be answered.")
        await asend_input(run_input, UUID(sent_by.removeprefix(run_inputs.SENDER)), sender, key_prefix)

    async def asend_to(self, flow_run_id: UUID, sender: str | None = None, key_prefix: str | None = None) -> None:
        """Send this to a flow run.

        Args:
            flow_run_id: The flow run.
            sender: In whose name. Default: the current flow run.
            key_prefix: What its key begins with. Default: the name of its type.
        """
        await asend_input(self, flow_run_id, sender, key_prefix)

    @classmethod
    def receive(
        cls,
        timeout: float | None = 3600,
        poll_interval: float = 10,
        raise_timeout_error: bool = False,
        exclude_keys: Iterable[str] | None = None,
        key_prefix: str | None = None,
        flow_run_id: UUID | None = None,
        with_metadata: bool = False,
    ) -> InputHandler:
        """Give an iterator over inputs of this type that arrive.

        Args:
            timeout: Seconds to wait for each.
            poll_interval: Seconds after which at the latest it is looked again. What this process sends is
                noticed at once, what others send within a fraction of a second.
            raise_timeout_error: Raise `TimeoutError` then; else the iteration ends.
            exclude_keys: Keys to pass over.
            key_prefix: What keys must begin with. Default: the name of this class.
            flow_run_id: The flow run that receives. Default: the current one.
            with_metadata: Give inputs of plain types whole, with their metadata, not just the value.
        """
        return InputHandler(
            cls, timeout, poll_interval, raise_timeout_error, exclude_keys, key_prefix, flow_run_id, with_metadata
        )

    save = classmethod(dual(asave.__func__))  # type: ignore[attr-defined]
    load = classmethod(dual(aload.__func__))  # type: ignore[attr-defined]
    respond = dual(arespond)
    send_to = dual(asend_to)


class RunInput(BaseRunInput):
    """Base of the types of input that flows ask for: a pydantic model.

    Example:
        >>> class Order(RunInput):
        ...     name: str
        ...     amount: int = 1
        >>> Order(name="paper").amount
        1
    """


class AutomaticRunInput(BaseRunInput, Generic[T]):
    """An input of one value of any type. Flows get the value itself.

    Attributes:
        value: The value.
    """

    value: T

    @classmethod
    async def aload(cls, keyset: Keyset, flow_run_id: UUID | None = None) -> Any:
        return (await super().aload(keyset, flow_run_id)).value

    load = classmethod(dual(aload.__func__))  # type: ignore[attr-defined]

    def unwrapped(self) -> Any:
        return self.value

    @classmethod
    def subclass_from_type(cls, _type: Any) -> type[AutomaticRunInput[Any]]:
        """Give the class for values of a type.

        Args:
            _type: Any type that pydantic knows.

        Example:
            >>> AutomaticRunInput.subclass_from_type(int)(value="3").value
            3
        """
        name = f"{word(getattr(_type, '__name__', str(_type)))}AutomaticRunInput"
        return create_model(name, __base__=AutomaticRunInput[_type])


def run_input_subclass_from_type(_type: Any) -> type[BaseRunInput]:
    """Give the class of input for a type: itself, a model made an input, or one with the field ``value``.

    Args:
        _type: A subclass of `RunInput`, another pydantic model, or any type.

    Raises:
        TypeError: It is no type.

    Example:
        >>> run_input_subclass_from_type(int).model_validate({"value": 1}).value
        1
    """
    if isinstance(_type, type) and issubclass(_type, BaseRunInput):
        return _type
    if isinstance(_type, type) and issubclass(_type, BaseModel):
        made: Any = create_model(f"{_type.__name__}RunInput", __base__=(RunInput, _type))
        return made
    try:
        return AutomaticRunInput.subclass_from_type(_type)
    except Exception as error:
        raise TypeError(f"{_type!r} is not a type that a run can wait for: {error}") from error


class Question:
    """What a pause waits for, in terms of the engine."""

    def __init__(self, kind: type[BaseRunInput]) -> None:
        self.kind = kind

    def entries(self) -> dict[str, str]:
        """Give the schema, and the description if there is one, as JSON."""
        said = {"schema": run_inputs.to_json(self.kind.model_json_schema())}
        if self.kind.__question__ is not None:
            said["description"] = run_inputs.to_json(self.kind.__question__)
        return said

    def load(self, text: str, run_id: UUID, key: str) -> Any:
        """Turn the answer into what the body gets."""
        answer = FlowRunInput(flow_run_id=run_id, key=key, value=text)
        return self.kind.load_from_flow_run_input(answer).unwrapped()


async def asend_input(
    run_input: Any, flow_run_id: UUID, sender: str | None = None, key_prefix: str | None = None
) -> None:
    """Send a flow run something that it receives with `receive_input`.

    Args:
        run_input: A `RunInput`, or a value of any type that JSON can hold.
        flow_run_id: The flow run.
        sender: In whose name. Default: the current flow run.
        key_prefix: What its key begins with. Default: the name of its type.

    Raises:
        ObjectNotFound: There is no such flow run.
    """
    if not isinstance(run_input, BaseRunInput):
        kind = run_input_subclass_from_type(type(run_input))
        run_input = kind(**(dict(run_input) if isinstance(run_input, BaseModel) else {"value": run_input}))
    prefix = f"{word(type(run_input).__name__)}-auto" if key_prefix is None else key_prefix
    await actions.acreate_flow_run_input_from_model(f"{prefix}-{new_id()}", run_input, flow_run_id, sender)


send_input = dual(asend_input)


def receive_input(
    input_type: Any,
    timeout: float | None = 3600,
    poll_interval: float = 10,
    raise_timeout_error: bool = False,
    exclude_keys: Iterable[str] | None = None,
    key_prefix: str | None = None,
    flow_run_id: UUID | None = None,
    with_metadata: bool = False,
) -> InputHandler:
    """Give an iterator over inputs of a type that arrive at a flow run.

    Args:
        input_type: A subclass of `RunInput`, or any type.
        timeout: Seconds to wait for each.
        poll_interval: Seconds after which at the latest it is looked again.
        raise_timeout_error: Raise `TimeoutError` then; else the iteration ends.
        exclude_keys: Keys to pass over.
        key_prefix: What keys must begin with. Default: the name of the type.
        flow_run_id: The flow run that receives. Default: the current one.
        with_metadata: Give inputs of plain types whole, with their metadata, not just the value.

    Returns:
        What `for` and `async for` iterate over; `next()` gives one.

    Raises:
        RuntimeError: No flow run is given, and none is active.

    Example:
        >>> from callsheet import flow
        >>> from callsheet.runtime import flow_run
        >>> @flow
        ... def to_myself() -> int:
        ...     send_input(41, flow_run.id)
        ...     return receive_input(int, timeout=5).next() + 1
        >>> to_myself()
        42
    """
    return run_input_subclass_from_type(input_type).receive(
        timeout, poll_interval, raise_timeout_error, exclude_keys, key_prefix, flow_run_id, with_metadata
    )
