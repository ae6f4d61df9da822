from __future__ import annotations

import dataclasses
import gc
import weakref
from collections import Counter, OrderedDict, UserDict, defaultdict, namedtuple
from types import MappingProxyType
from typing import Any

import msgspec
import pydantic
import pydantic.v1
import pytest
from hypothesis import given
from hypothesis import strategies as st

from callsheet.annotations import allow_failure, quote, unmapped
from callsheet.utilities.collections import find, replace, trace


class Mark:
    """What the tests look for."""

    def __init__(self, value=None):
        self.value = value

    def __repr__(self):
        return f"Mark({self.value!r})"


class Submark(Mark):
    pass


MARKS = (Mark,)


def value_of(mark):
    return mark.value


@dataclasses.dataclass
class Plain:
    x: Any
    y: Any = 0


@dataclasses.dataclass(frozen=True, slots=True)
class Frozen:
    x: Any
    y: Any = dataclasses.field(default=0, init=False)


@dataclasses.dataclass
class Picky:
    """Its constructor must not run again."""

    x: Any
    seed: dataclasses.InitVar[int]
    made: int = dataclasses.field(init=False, default=0)

    def __post_init__(self, seed):
        self.made += seed


class Struct(msgspec.Struct):
    x: Any
    y: Any = 0


class FrozenStruct(msgspec.Struct, frozen=True):
    x: Any
    y: Any = 0


class Model(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="allow", arbitrary_types_allowed=True)
    x: Any
    y: int = 0
    _hidden: Any = pydantic.PrivateAttr(default=None)


class FrozenModel(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(frozen=True)
    x: Any
    y: int = 0


class OldModel(pydantic.v1.BaseModel):
    x: Any
    y: int = 0


Point = namedtuple("Point", "x y")


class MyList(list):
    note = None


class MyTuple(tuple):  # noqa: SLOT001
    pass


class MyDict(dict):
    pass


def shapes(inner):
    """Every kind of container, with something else in it beside `inner`."""
    return [
        [1, inner],
        (inner, 1),
        {"k": inner, "l": 1},
        OrderedDict(a=1, b=inner),
        defaultdict(list, a=inner),
        MyList([1, inner]),
        MyTuple([1, inner]),
        MyDict(a=inner),
        Point(1, inner),
        Plain(inner),
        Frozen(inner),
        Picky(inner, seed=3),
        Struct(inner),
        FrozenStruct(inner),
        Model(x=inner),
        FrozenModel(x=inner),
        OldModel(x=inner),
        [{"a": (Plain([inner]),)}],
    ]


HASHABLE = [{1, 2}, frozenset({1})]
names = [type(shape).__name__ for shape in shapes(None)]


@pytest.mark.parametrize("index", range(len(names)), ids=names)
def test_containers_are_entered_and_rebuilt_in_their_own_class(index):
    mark = Mark(["value"])
    before = shapes(mark)[index]
    expected = shapes(mark.value)[index]
    assert find(before, MARKS) == [mark]
    after = replace(before, MARKS, value_of)
    assert after == expected
    assert type(after) is type(before)
    assert find(before, MARKS) == [mark], "the caller's object was changed"


@pytest.mark.parametrize("index", range(len(names)), ids=names)
def test_without_a_match_the_same_object_comes_back(index):
    value = shapes("nothing")[index]
    assert find(value, MARKS) == []
    assert replace(value, MARKS, value_of) is value


def test_sets_and_keys():
    mark = Mark(7)
    assert replace({1, mark}, MARKS, value_of) == {1, 7}
    made = replace(frozenset({1, mark}), MARKS, value_of)
    assert made == frozenset({1, 7})
    assert type(made) is frozenset
    assert replace({mark: 1, (2, mark): 2}, MARKS, value_of) == {7: 1, (2, 7): 2}
    assert find({mark: 1, (2, Submark()): 2}, (Submark,)) != []
    with pytest.raises(TypeError, match="unhashable"):
        replace({Mark([])}, MARKS, value_of)


def test_a_match_itself():
    mark = Submark(3)
    assert find(mark, MARKS) == [mark]
    assert replace(mark, MARKS, value_of) == 3
    assert find(mark, ()) == []


def test_matches_are_not_looked_into():
    inner = Mark()
    outer = MyList([inner])
    assert find([outer], (MyList, Mark)) == [outer]
    assert replace([outer], (MyList, Mark), type) == [MyList]


def test_found_once_in_the_order_of_appearance():
    a, b, c = Mark("a"), Mark("b"), Mark("c")
    assert find([a, {"x": [b, a]}, (c, b)], MARKS) == [a, b, c]
    assert find({b: c, "x": a}, MARKS) == [b, c, a]


def test_only_the_paths_to_a_match_are_rebuilt():
    kept, mark = [[1], {"a": 2}], Mark(5)
    before = {"kept": kept, "changed": [kept, mark]}
    after = replace(before, MARKS, value_of)
    assert after["kept"] is kept
    assert after["changed"][0] is kept
    assert after["changed"][1] == 5


def test_long_collections():
    mark = Mark(-1)
    numbers = list(range(10_000))
    assert find(numbers, MARKS) == []
    assert replace(numbers, MARKS, value_of) is numbers
    mixed = [*numbers, "text", None, [mark]]
    assert find(mixed, MARKS) == [mark]
    assert replace(mixed, MARKS, value_of) == [*numbers, "text", None, [-1]]
    by_name = dict.fromkeys(map(str, numbers), 0)
    assert replace(by_name, MARKS, value_of) is by_name
    assert replace({**by_name, "x": mark}, MARKS, value_of) == {**by_name, "x": -1}
    assert trace(mixed, {id(mark): "mark", id(numbers[9000]): 9000}) == [9000, "mark"]


def test_one_object_in_two_places_stays_one_object():
    shared = [Mark(1)]
    after = replace({"a": shared, "b": (shared,)}, MARKS, value_of)
    assert after == {"a": [1], "b": ([1],)}
    assert after["a"] is after["b"][0]


def test_attributes_and_factories_survive():
    before = MyList([Mark(1)])
    before.note = "mine"
    after = replace(before, MARKS, value_of)
    assert after.note == "mine"
    assert replace(defaultdict(set, a=Mark(1)), MARKS, value_of)["new"] == set()
    assert replace(Counter({"a": Mark(2)}), MARKS, value_of) == Counter(a=2)
    order = OrderedDict(a=Mark(1), b=2)
    order.move_to_end("a")
    assert list(replace(order, MARKS, value_of)) == ["b", "a"]
    model = replace(Model(x=Mark(1), more=[Mark(2)]), MARKS, value_of)
    assert (model.x, model.more, model.model_fields_set) == (1, [2], {"x", "more"})
    hidden = Model(x=1)
    hidden._hidden = Mark(9)
    assert replace(hidden, MARKS, value_of)._hidden == 9
    assert isinstance(hidden._hidden, Mark)


def test_unset_attributes_stay_unset():
    thing = Plain(Mark(1))
    del thing.y
    assert vars(replace(thing, MARKS, value_of)) == {"x": 1}


# ------------------------------------------------------------------------------------------- what is left alone


class Hostile:
    """Whoever looks into it fails the test."""

    def __iter__(self):
        raise AssertionError("iterated")

    __len__ = __getitem__ = __eq__ = __hash__ = __bool__ = __iter__


class Array(Hostile):
    shape = (3,)


def generator():
    raise AssertionError("consumed")
    yield


def test_leaves_are_never_touched():
    leaves = [Hostile(), Array(), generator(), iter([Mark()]), b"bytes", "text", Mark, UserDict(a=Mark()),
              MappingProxyType({"a": Mark()}), range(9), memoryview(b"x"), Plain]  # fmt: skip
    assert find(leaves, MARKS) == []
    assert replace(leaves, MARKS, value_of) is leaves
    for leaf in leaves:
        assert replace(leaf, MARKS, value_of) is leaf


def test_numbers_and_texts_beside_a_match_stay_as_they_are():
    hostile, text, number = Hostile(), "text" * 100, 10**30
    after = replace([hostile, text, number, Mark(1)], MARKS, value_of)
    assert after[0] is hostile
    assert after[1] is text
    assert after[2] is number


def test_records_of_this_package_are_values():
    from callsheet._model.records import SeqIs

    assert find([SeqIs(run_id=Mark(), seq=Mark())], MARKS) == []


def test_lists_of_this_package_become_plain_lists():
    futures = type("TaskFutureList", (list,), {"__module__": "callsheet.futures"})
    after = replace(futures([Mark(1), Mark(2)]), MARKS, value_of)
    assert after == [1, 2]
    assert type(after) is list


# ------------------------------------------------------------------------------------------- annotations


def test_quote_is_never_entered():
    quoted = quote([Mark()])
    assert find([quoted, (quoted,)], MARKS) == []
    assert replace([quoted], MARKS, value_of)[0] is quoted


def test_other_wrappers_are_entered_and_kept():
    for wrapper in (unmapped, allow_failure):
        mark = Mark(4)
        assert find(wrapper([mark]), MARKS) == [mark]
        after = replace([wrapper([mark]), 1], MARKS, value_of)
        assert type(after[0]) is wrapper
        assert after[0].unwrap() == [4]
        untouched = wrapper([1])
        assert replace([untouched], MARKS, value_of)[0] is untouched


def test_wrappers_can_be_taken_off():
    mark, inner = Mark(4), Mark(5)
    value = {"a": unmapped([mark]), "b": quote(inner), "c": allow_failure(1), "d": [2]}
    after = replace(value, MARKS, value_of, strip=(unmapped, allow_failure, quote))
    assert after == {"a": [4], "b": inner, "c": 1, "d": [2]}
    assert after["d"] is value["d"]
    assert replace(quote([inner]), MARKS, value_of, strip=(quote,)) == [inner]
    assert replace(allow_failure(unmapped(1)), MARKS, value_of, strip=(allow_failure, unmapped)) == 1
    kept = replace(allow_failure(unmapped(1)), MARKS, value_of, strip=(unmapped,))
    assert type(kept) is allow_failure
    assert kept.unwrap() == 1


def test_another_function_inside_of_a_wrapper():
    mark = Mark(1)
    shared = [mark]
    inside = {allow_failure: lambda mark: ("allowed", mark.value)}
    after = replace([shared, allow_failure(shared), allow_failure({"k": unmapped(mark)}), unmapped(mark)],
                    MARKS, value_of, inside=inside, strip=(allow_failure, unmapped))  # fmt: skip
    assert after == [[1], [("allowed", 1)], {"k": ("allowed", 1)}, 1]


# ------------------------------------------------------------------------------------------- cycles


def test_cycles_without_a_match():
    loop: list[Any] = [1]
    loop.append({"self": loop, "tuple": (loop,)})
    assert find(loop, MARKS) == []
    assert replace(loop, MARKS, value_of) is loop


def test_cycles_close_again():
    mark = Mark("m")
    loop: list[Any] = [mark]
    pair = (loop, mark)
    loop += [pair, {"loop": loop}, Plain(loop)]
    assert find(loop, MARKS) == [mark]
    after = replace(loop, MARKS, value_of)
    assert after[0] == "m"
    assert after[1][0] is after
    assert after[1][1] == "m"
    assert after[2]["loop"] is after
    assert after[3].x is after
    again = replace(pair, MARKS, value_of)
    assert again[0][1] is again
    node = Struct(mark)
    node.y = [node]
    made = replace(node, MARKS, value_of)
    assert made.x == "m"
    assert made.y[0] is made


def test_what_is_found_deep_down():
    value: Any = Mark("deep")
    for _ in range(200):
        value = [value]
    assert [mark.value for mark in find(value, MARKS)] == ["deep"]
    after = replace(value, MARKS, value_of)
    for _ in range(200):
        (after,) = after
    assert after == "deep"
    for _ in range(100_000):
        value = [value]
    assert len(find(value, MARKS)) == 1


def test_classes_without_end_fill_no_memory():
    def made():
        cls = type("Made", (), {})
        find(cls(), MARKS)
        return weakref.ref(cls)

    first = made()
    for _ in range(5000):
        made()
    gc.collect()
    assert first() is None


# ------------------------------------------------------------------------------------------- trace


def test_trace_knows_objects_by_identity():
    a, b, text = object(), [1, 2], "some text"
    known = {id(a): "A", id(b): "B", id(text): "T"}
    assert trace(a, known) == ["A"]
    assert trace({"x": (b, a), "y": Plain([a, text])}, known) == ["B", "A", "T"]
    assert trace([1, 2], known) == []
    assert trace([[1, 2], object()], known) == []
    assert trace(quote(a), known) == []
    assert trace(allow_failure(a), known) == ["A"]
    assert trace({a: 1}, known) == ["A"]
    assert trace([a], {}) == []


def test_trace_survives_cycles():
    loop: list[Any] = []
    loop.append(loop)
    assert trace([loop], {id(loop): "L"}) == ["L"]


# ------------------------------------------------------------------------------------------- properties

leaves = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=3) | st.binary(max_size=3)
)
marks = st.builds(Mark, leaves)
hashable = st.integers() | st.text(max_size=3) | marks


def containers(inner):
    return (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(hashable, inner, max_size=3)
        | st.dictionaries(hashable, inner, max_size=3).map(OrderedDict)
        | st.frozensets(hashable, max_size=3)
        | st.sets(hashable, max_size=3)
        | st.builds(Plain, inner, inner)
        | st.builds(Frozen, inner)
        | st.builds(Struct, inner, inner)
        | st.builds(Model, x=inner)
        | st.builds(Point, inner, inner)
        | st.builds(allow_failure, inner)
        | st.builds(quote, inner)
    )


values = st.recursive(leaves | marks, containers, max_leaves=15)


def naive(value, fn):
    """The same by brute force: rebuild everything by constructors."""
    if isinstance(value, Mark):
        return fn(value)
    if isinstance(value, quote):
        return value
    if isinstance(value, allow_failure):
        return allow_failure(naive(value.unwrap(), fn))
    if isinstance(value, Point):
        return Point(naive(value.x, fn), naive(value.y, fn))
    if isinstance(value, (list, tuple, set, frozenset)):
        return type(value)([naive(item, fn) for item in value])
    if isinstance(value, dict):
        return type(value)((naive(key, fn), naive(item, fn)) for key, item in value.items())
    if isinstance(value, Frozen):
        return Frozen(naive(value.x, fn))
    if isinstance(value, (Plain, Struct)):
        return type(value)(naive(value.x, fn), naive(value.y, fn))
    if isinstance(value, Model):
        return Model(x=naive(value.x, fn))
    return value


@given(values)
def test_replace_does_what_brute_force_does(value):
    for fn in (value_of, id):
        after = replace(value, MARKS, fn)
        assert after == naive(value, fn)
        assert type(after) is type(naive(value, fn))
        assert find(after, MARKS) == []


@given(values)
def test_find_sees_exactly_what_replace_replaces(value):
    replaced = []
    same = replace(value, MARKS, lambda mark: replaced.append(mark) or mark)
    assert {id(mark) for mark in replaced} == {id(mark) for mark in find(value, MARKS)}
    assert same == value
    if not replaced:
        assert same is value


@given(values)
def test_trace_sees_what_find_sees(value):
    found = find(value, MARKS)
    assert trace(value, {id(mark): mark for mark in found}) == found
