"""Small immutable values for the supervisor, at a tenth of a frozen dataclass's memory."""

from typing import Any, ClassVar, dataclass_transform


@dataclass_transform(frozen_default=True)
class Value:
    """Base of classes that are nothing but their annotated fields, compared by type and fields.

    Type checkers take a subclass for a frozen dataclass, and it behaves like one. A dataclass
    costs 12 kB since it compiles functions of its own; the supervisor has thirty such classes
    and a budget of 18 MB. Subclasses of subclasses are not supported.
    """

    __match_args__: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls) -> None:
        type.__setattr__(cls, "__match_args__", tuple(cls.__annotations__))

    def __init__(self, *values: Any, **named: Any) -> None:
        given = dict(zip(self.__match_args__, values, strict=False))
        unknown = named.keys() - (self.__match_args__[len(values) :])
        missing = [
            name
            for name in self.__match_args__
            if name not in given and name not in named and not hasattr(type(self), name)
        ]
        if unknown or missing or len(values) > len(self.__match_args__):
            raise TypeError(f"{type(self).__name__} has the fields {self.__match_args__}")
        self.__dict__.update(given, **named)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__} cannot change")

    def _fields(self) -> tuple[Any, ...]:
        return tuple(getattr(self, name) for name in self.__match_args__)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, type(self)) and self._fields() == other._fields()

    def __hash__(self) -> int:
        return hash((type(self), self._fields()))

    def __repr__(self) -> str:
        fields = zip(self.__match_args__, self._fields(), strict=True)
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in fields)})"
