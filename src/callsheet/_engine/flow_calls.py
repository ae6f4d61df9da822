"""What can be done with a flow besides defining it: run, check and describe parameters, draw."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NoReturn, ParamSpec, TypeVar, cast

from callsheet._engine.calls import Calls, engine
from callsheet._engine.dual import dual
from callsheet._engine.later import not_yet
from callsheet._engine.parameters import Validator, serialize_parameters

if TYPE_CHECKING:
    from callsheet.utilities.schema import ParameterSchema

R_co = TypeVar("R_co", covariant=True)
P = ParamSpec("P")


class FlowCalls(Calls[P, R_co]):
    """A flow without its options."""

    def _restore(self) -> None:
        # By the number of parameters that are bound; shared by a flow and its bound copies, which live for one call.
        self._validators: dict[int, Validator] = {}
        self._schemas: dict[int, ParameterSchema] = {}

    def _call(self, parameters: dict[str, Any], wait_for: Iterable[Any] | None, return_state: bool) -> Any:
        return engine().call_flow(self, parameters, wait_for=wait_for, return_state=return_state)

    def _submit(self, parameters: dict[str, Any], wait_for: Iterable[Any] | None, return_state: bool) -> Any:
        return engine().submit_flow(self, parameters, wait_for=wait_for, return_state=return_state)

    # ----------------------------------------------------------------------------------------- parameters

    @property
    def parameters(self) -> ParameterSchema:
        """The schema of the parameters; made when it is first asked for."""
        bound = len(self._bound)
        if bound not in self._schemas:
            from callsheet.utilities.schema import parameter_schema

            self._schemas[bound] = parameter_schema(self.fn, skip_first=self.ismethod, names=self._names)
        return self._schemas[bound]

    def validate_parameters(self, parameters: dict[str, Any]) -> dict[str, Any]:
        """Check parameters against the function's annotations, and convert them.

        Args:
            parameters: Values by name.

        Returns:
            A new dict of what was passed, converted, and of defaults that a factory makes.

        Raises:
            ParameterTypeError: A value does not fit.
            SignatureMismatchError: There is no parameter of a name.

        Example:
            >>> from callsheet import flow
            >>> @flow
            ... def double(x: int) -> int:
            ...     return 2 * x
            >>> double.validate_parameters({"x": "5"})
            {'x': 5}
        """
        bound = len(self._bound)
        validator = self._validators.get(bound)
        if validator is None:
            validator = self._validators[bound] = Validator(self.name, self._binder, self._names, bound)
        return validator.validate(parameters)

    def serialize_parameters(self, parameters: dict[str, Any]) -> dict[str, Any]:
        """Turn parameters into what JSON can carry, numbers and truth values as they are.

        Args:
            parameters: Values by name.

        Returns:
            Converted values by name, without the instance of a method. A future, a state, or a value that has no
            such form becomes ``<TypeName>``.

        Example:
            >>> from callsheet import flow
            >>> @flow
            ... def sink(x: object) -> None: ...
            >>> sink.serialize_parameters({"x": {1, 2}}), sink.serialize_parameters({"x": print})
            ({'x': [1, 2]}, {'x': '<builtin_function_or_method>'})
        """
        skipped = self._binder.names[0] if self._bound else None
        return serialize_parameters(self.name, parameters, skipped)

    # ------------------------------------------------------------------------------------- later releases

    async def avisualize(self, *args: Any, **kwargs: Any) -> None:
        """Draw the flow's graph; see `visualize`."""
        parameters = self._binder.bind(self._bound + args, kwargs)
        from callsheet._engine.visualize import visualize_flow

        await visualize_flow(cast("Any", self), parameters)

    visualize = dual(avisualize, waits=True)

    @classmethod
    def from_source(cls, *_: Any, **__: Any) -> NoReturn:
        """Load a flow from elsewhere. Not implemented yet."""
        not_yet("Flow.from_source")

    def to_deployment(self, *_: Any, **__: Any) -> NoReturn:
        """Make a deployment of the flow. Not implemented yet."""
        not_yet("Flow.to_deployment")

    def deploy(self, *_: Any, **__: Any) -> NoReturn:
        """Deploy the flow to a work pool. Not implemented yet."""
        not_yet("Flow.deploy")

    def serve(self, *_: Any, **__: Any) -> NoReturn:
        """Deploy the flow and watch for its runs. Not implemented yet."""
        not_yet("Flow.serve")
