"""Serializers: what goes in comes out, what cannot is one clear error."""

from __future__ import annotations

import json
import math
import pickle
import subprocess
import sys
from collections import OrderedDict, deque
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from pathlib import Path, PurePosixPath
from typing import Any, Literal
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from callsheet._results import pickling
from callsheet.exceptions import ConfigurationError, SerializationError
from callsheet.filesystems import MemoryStorage
from callsheet.results import ResultStore
from callsheet.serializers import (
    CompressedJSONSerializer,
    CompressedPickleSerializer,
    CompressedSerializer,
    EncryptedSerializer,
    JSONSerializer,
    MsgpackSerializer,
    PickleSerializer,
    Serializer,
    json_object_decoder,
    json_object_encoder,
)
from callsheet.settings import temporary_settings
from callsheet.states import Completed, Failed
from callsheet.testing.utilities import exceptions_equal

sys.path.insert(0, str(Path(__file__).parent))
import kinds
from kinds import Colour, Flags, Model, Odd, Pair, Point, Record

KEY = EncryptedSerializer.generate_key()
ALL = [
    Serializer(type="pickle"),
    Serializer(type="json"),
    Serializer(type="msgpack"),
    Serializer(type="compressed/json"),
    Serializer(type="compressed/pickle"),
    Serializer(type="compressed/msgpack"),
    CompressedSerializer(serializer="pickle", compressionlib="zlib"),
    EncryptedSerializer(serializer="json", keys=[KEY]),
]

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.complex_numbers(allow_nan=False)
    | st.text()
    | st.binary()
    | st.uuids()
    | st.decimals(allow_nan=False)
    | st.fractions()
    | st.dates()
    | st.times()
    | st.timedeltas()
    | st.datetimes(timezones=st.none() | st.just(UTC) | st.just(timezone(timedelta(hours=5, minutes=30))))
    | st.sampled_from([Colour.RED, Colour.MIXED, Flags.A | Flags.B])
)
hashable = st.none() | st.booleans() | st.integers() | st.text() | st.binary() | st.uuids()
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.sets(hashable, max_size=4)
        | st.frozensets(hashable, max_size=4)
        | st.dictionaries(st.text() | st.sampled_from(["__class__", "__exc_type__", "data"]), inner, max_size=4)
        | st.dictionaries(hashable, inner, max_size=3)
        | st.builds(Point, inner)
        | st.builds(Record, inner, inner)
        | st.builds(Model, name=st.text(), inner=inner)
        | st.builds(Pair, inner, inner)
    ),
    max_leaves=12,
)


def same(one: Any, other: Any) -> bool:
    """Equality that also tells types apart."""
    if type(one) is not type(other):
        return False
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return (
            list(map(type, one)) == list(map(type, other))
            and one.keys() == other.keys()
            and all(same(one[key], other[key]) for key in one)
        )
    return bool(one == other)


@settings(max_examples=200)
@given(value=values)
def test_what_goes_in_comes_out(value: Any) -> None:
    for serializer in ALL:  # all of them the same value: to make one takes much longer than to write and read it
        assert same(serializer.loads(serializer.dumps(value)), value), serializer


ODDITIES = [
    float("inf"),
    -float("inf"),
    10**40,
    -(2**63),
    2**63,
    bytearray(b"abc"),
    deque([1, 2], maxlen=3),
    OrderedDict(b=1, a=2),
    range(1, 9, 2),
    Fraction(1, 3),
    Decimal("NaN").is_nan(),
    PurePosixPath("/a/b"),
    datetime(2024, 10, 27, 2, 30, tzinfo=ZoneInfo("Europe/Berlin"), fold=1),
    time(1, 2, 3, 4, tzinfo=UTC),
    date(1, 1, 1),
    timedelta(days=-1, microseconds=1),
    UUID(int=0),
    int,
    Model,
    Model(name="a", inner=Model(name="b")),
    {"__class__": "os.system", "data": "true"},
    {1: "a", "1": "b"},
    [Completed(data=(1, 2)), Failed(message="x")],
    "\x00\u2028😀",
]


@pytest.mark.parametrize("serializer", ALL, ids=lambda one: f"{one.type}-{getattr(one, 'compressionlib', '')}")
@pytest.mark.parametrize("value", ODDITIES, ids=lambda one: repr(one)[:30])
def test_oddities_come_out_too(serializer: Serializer[Any], value: Any) -> None:
    out = serializer.loads(serializer.dumps(value))
    assert type(out) is type(value)
    assert out == value
    if isinstance(value, datetime):
        assert (str(out.tzinfo), out.fold) == (str(value.tzinfo), value.fold)
    if isinstance(value, deque):
        assert out.maxlen == value.maxlen


@pytest.mark.parametrize("kind", ["pickle", "json", "msgpack", "compressed/json"])
def test_not_a_number_comes_out(kind: str) -> None:
    serializer = Serializer(type=kind)
    assert math.isnan(serializer.loads(serializer.dumps([float("nan")]))[0])


EXCEPTIONS = [
    ValueError("x", 1),
    KeyError("missing"),
    OSError(2, "No such file", "a"),
    UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"),
    ExceptionGroup("several", [ValueError(1), TypeError("b")]),
    KeyboardInterrupt(),
    Odd(code=3),
    SerializationError("ours"),
]


@pytest.mark.parametrize("kind", ["json", "msgpack", "compressed/json"])
@pytest.mark.parametrize("error", EXCEPTIONS, ids=lambda error: type(error).__name__)
def test_exceptions_come_out(kind: str, error: BaseException) -> None:
    serializer = Serializer(type=kind)
    out = serializer.loads(serializer.dumps(error))
    assert type(out) is type(error)
    assert str(out) == str(error)
    assert repr(out.args) == repr(error.args)
    assert {key: repr(value) for key, value in vars(out).items()} == {k: repr(v) for k, v in vars(error).items()}


@pytest.mark.parametrize("error", [error for error in EXCEPTIONS if not isinstance(error, Odd)], ids=repr)
def test_exceptions_are_pickled(error: BaseException) -> None:
    serializer = PickleSerializer()
    out = serializer.loads(serializer.dumps(error))
    assert repr(out) == repr(error)
    if not isinstance(error, BaseExceptionGroup):
        assert exceptions_equal(out, error)


# ------------------------------------------------------------------------------------- the register


def test_a_type_gives_its_serializer() -> None:
    assert isinstance(Serializer(type="pickle"), PickleSerializer)
    assert isinstance(Serializer(type="json", jsonlib="json"), JSONSerializer)
    assert isinstance(Serializer(type="msgpack"), MsgpackSerializer)
    assert isinstance(Serializer(type="compressed/pickle"), CompressedPickleSerializer)
    assert isinstance(Serializer(type="compressed/json"), CompressedJSONSerializer)
    around = Serializer(type="compressed/msgpack")
    assert isinstance(around, CompressedSerializer)
    assert isinstance(around.serializer, MsgpackSerializer)
    assert Serializer(type="encrypted/json").serializer == JSONSerializer()  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", ["nothing", "compressed/nothing", "compressed", "", None, 3])
def test_an_unknown_type_is_an_error(kind: Any) -> None:
    with pytest.raises((ValidationError, TypeError)):
        Serializer(type=kind)


def test_a_class_of_the_user_is_known_by_its_type() -> None:
    class Upper(Serializer[Any]):
        type: Literal["test-upper"] = "test-upper"
        times: int = 1

        def dumps(self, obj: Any) -> bytes:
            return obj.upper().encode() * self.times

        def loads(self, blob: bytes) -> Any:
            return blob.decode()

    made = Serializer(type="test-upper", times=2)
    assert isinstance(made, Upper)
    assert made == Upper(times=2)
    assert made.dumps("a") == b"AA"
    with pytest.raises(ValidationError, match="extra"):
        Upper(other=1)

    class Holder(BaseModel):
        serializer: Serializer[Any]

    for given_as in (Upper(), {"type": "test-upper"}, "test-upper"):
        assert Holder(serializer=given_as).serializer == Upper()  # type: ignore[arg-type]
    with pytest.raises(ValidationError):
        Holder(serializer=3)  # type: ignore[arg-type]


def test_a_type_that_is_taken_over_is_said() -> None:
    def define() -> Any:
        class Twice(Serializer[Any]):
            type: str = "test-twice"

            def dumps(self, obj: Any) -> bytes:
                return b""

            def loads(self, blob: bytes) -> Any:
                return None

        return Twice

    define()
    define()  # the same class again, as in a notebook

    with pytest.warns(UserWarning, match="'test-twice'.*taken over"):

        class Other(Serializer[Any]):
            type: str = "test-twice"

            def dumps(self, obj: Any) -> bytes:
                return b""

            def loads(self, blob: bytes) -> Any:
                return None


def test_a_serializer_is_pickled_and_described() -> None:
    for serializer in ALL[:-1]:
        assert pickle.loads(pickle.dumps(serializer)) == serializer
        assert Serializer(**serializer.describe()) == serializer


# ------------------------------------------------------------------------------------------- pickles


def test_cloudpickle_takes_what_pickle_refuses() -> None:
    serializer = PickleSerializer()
    double = serializer.loads(serializer.dumps(lambda x: 2 * x))
    assert double(4) == 8


def test_a_plain_pickle_is_read() -> None:
    assert PickleSerializer().loads(pickle.dumps([1])) == [1]


def test_another_version_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    serializer = PickleSerializer()
    with monkeypatch.context() as patch:
        patch.setattr(pickling, "_PYTHON", "3.9")
        blob = serializer.dumps(lambda: 1)
        plain = serializer.dumps(1)
    assert serializer.loads(plain) == 1  # plain pickles do not depend on it
    with pytest.warns(RuntimeWarning, match=r"Mismatched versions.*Python 3\.9"):
        serializer.loads(blob)


def test_another_pickle_library(monkeypatch: pytest.MonkeyPatch) -> None:
    assert PickleSerializer(picklelib="pickle").loads(PickleSerializer(picklelib="pickle").dumps(1)) == 1
    with pytest.raises(ValidationError, match="does not have a 'dumps' method"):
        PickleSerializer(picklelib="math")
    with pytest.raises(ValidationError, match="Failed to import requested pickle library"):
        PickleSerializer(picklelib="there_is_no_such_module")
    with pytest.warns(RuntimeWarning, match="Mismatched 'cloudpickle' versions"):
        PickleSerializer(picklelib="cloudpickle", picklelib_version="0.1")


def test_what_cannot_be_pickled_says_so() -> None:
    with pytest.raises(SerializationError, match="generator"):
        PickleSerializer().dumps(x for x in ())


def test_a_class_that_is_gone_says_so() -> None:
    blob = PickleSerializer().dumps(Point(1)).replace(b"Point", b"Ploin")
    with pytest.raises(SerializationError, match="Ploin"):
        PickleSerializer().loads(blob)


@pytest.mark.parametrize("serializer", ALL, ids=lambda one: one.type)
def test_torn_bytes_are_one_clear_error(serializer: Serializer[Any]) -> None:
    blob = serializer.dumps({"a": [1.5] * 100, "b": np.arange(10).tolist()})
    for length in {0, 1, 5, len(blob) // 2, len(blob) - 1}:
        with pytest.raises(SerializationError):
            serializer.loads(blob[:length])


@pytest.mark.parametrize(
    "value", [np.arange(100_000), np.ones((300, 300))[::2], np.asfortranarray(np.ones((200, 300)))]
)
def test_arrays_come_out_writable(value: np.ndarray[Any, Any]) -> None:
    serializer = PickleSerializer()
    parts = serializer.dump_parts([value, "x"])
    out = serializer.loads(b"".join(parts))[0]
    assert np.array_equal(out, value)
    out[0] = 7


def test_large_buffers_are_not_copied() -> None:
    array, text = np.ones(1_000_000), b"x" * 1_000_000
    parts = PickleSerializer().dump_parts([array, text])
    assert any(isinstance(part, memoryview) and part.nbytes == array.nbytes for part in parts)
    assert any(part is text for part in parts)


# ---------------------------------------------------------------------------------------------- JSON


def test_json_is_what_people_expect() -> None:
    assert JSONSerializer().dumps({"a": [1, 2.5, None, True, "é"]}) == '{"a":[1,2.5,null,true,"é"]}'.encode()


def test_paths_are_written_in_the_same_way_by_every_python() -> None:
    assert JSONSerializer().dumps(PurePosixPath("/a")) == b'{"__class__":"pathlib.PurePosixPath","data":"/a"}'


def test_objects_have_a_tagged_form() -> None:
    made = json_object_encoder(Record(1))
    assert made == {"__class__": "kinds.Record", "data": {"a": 1, "b": None}}
    assert json_object_decoder(made) == Record(1)
    assert json_object_decoder({"a": 1}) == {"a": 1}
    error = json_object_encoder(ValueError("x"))
    assert (error["__exc_type__"], error["message"]) == ("builtins.ValueError", "x")
    assert repr(json_object_decoder({"__exc_type__": "builtins.ValueError", "message": "x"})) == "ValueError('x')"


@pytest.mark.parametrize(
    "tag",
    [
        {"__class__": "os.system", "data": "true"},
        {"__class__": "subprocess.Popen", "data": {}},
        {"__class__": "there.is.no.such.Thing", "data": 1},
        {"__class__": "no_module", "data": 1},
        {"__exc_type__": "builtins.dict", "message": "x"},
    ],
)
def test_a_tag_that_names_something_else_is_refused(tag: Any) -> None:
    with pytest.raises(SerializationError):
        JSONSerializer().loads(json.dumps(tag).encode())


def test_encoder_and_decoder_of_the_user() -> None:
    serializer = JSONSerializer(object_encoder="kinds.shout", object_decoder="kinds.whisper")
    assert serializer.dumps([object(), (1, 2)]) == b'["<object>", [1, 2]]'
    assert serializer.loads(b'{"b": 1, "a": 2}') == ["a", "b"]
    assert kinds.shout(1) == "<int>"
    with pytest.raises(SerializationError, match="object"):
        JSONSerializer(object_encoder=None).dumps(object())
    assert JSONSerializer(object_decoder=None).loads(b'{"__class__": 1}') == {"__class__": 1}


def test_keywords_and_libraries() -> None:
    serializer = JSONSerializer(jsonlib="json", dumps_kwargs={"indent": 1}, loads_kwargs={"parse_float": str})
    assert serializer.dumps([1]) == b"[\n 1\n]"
    assert serializer.loads(b"[1.5]") == ["1.5"]
    assert JSONSerializer(dumps_kwargs={"sort_keys": True}).dumps({"b": 1, "a": 2}) == b'{"a": 2, "b": 1}'
    for wrong in ({"dumps_kwargs": {"default": str}}, {"loads_kwargs": {"object_hook": str}}, {"jsonlib": "math"}):
        with pytest.raises(ValidationError):
            JSONSerializer(**wrong)
    with pytest.raises(ValidationError, match="Failed to import"):
        JSONSerializer(jsonlib="there_is_no_such_module")


@pytest.mark.parametrize("kind", ["json", "msgpack"])
def test_what_has_no_form_says_so(kind: str) -> None:
    class Local:
        pass

    itself: list[Any] = []
    itself.append(itself)
    for value in (Local(), object(), lambda: 1, itself, np.float64(1)):
        with pytest.raises(SerializationError, match="cannot be turned into"):
            Serializer(type=kind).dumps(value)


# ---------------------------------------------------------------------------- compressed, encrypted


def test_compression_libraries() -> None:
    for library in ("lzma", "zlib", "bz2", "gzip"):
        serializer = CompressedSerializer(serializer="json", compressionlib=library)
        assert serializer.loads(serializer.dumps([1])) == [1]
    with pytest.raises(ValidationError, match="does not have a 'compress' method"):
        CompressedSerializer(serializer="json", compressionlib="math")
    with pytest.raises(ValidationError, match="Failed to import"):
        CompressedSerializer(serializer="json", compressionlib="there_is_no_such_module")


def test_keys_come_from_the_setting_and_can_be_changed() -> None:
    old, new = EncryptedSerializer.generate_key(), EncryptedSerializer.generate_key()
    serializer = EncryptedSerializer()
    with temporary_settings({"results_encryption_keys": old}):
        blob = serializer.dumps("secret")
        assert serializer.loads(blob) == "secret"
    with temporary_settings({"results_encryption_keys": f"{new}, {old}"}):
        assert serializer.loads(blob) == "secret"
        newer = serializer.dumps("secret")
    with temporary_settings({"results_encryption_keys": new}):
        assert serializer.loads(newer) == "secret"
        with pytest.raises(SerializationError, match=r"another key.*CALLSHEET_RESULTS_ENCRYPTION_KEYS"):
            serializer.loads(blob)
    with pytest.raises(ConfigurationError, match="there is no key"):
        serializer.dumps(1)
    with pytest.raises(ConfigurationError, match="32 bytes"):
        EncryptedSerializer(keys=["short"]).dumps(1)


@pytest.mark.parametrize("storage", [MemoryStorage, "folder"])
def test_keys_of_temporary_settings_hold_wherever_it_is_read_and_written(storage: Any, tmp_path: Path) -> None:
    """Storages that may block are written on threads."""
    place = tmp_path if storage == "folder" else storage()
    store = ResultStore(result_storage=place, serializer="encrypted/json", cache_result_in_memory=False)
    with temporary_settings({"results_encryption_keys": KEY}):
        store.write("secret", key="k")
        assert store.read("k").result == "secret"
    with pytest.raises(SerializationError, match="no key"):
        store.read("k")


def test_keys_are_shown_nowhere() -> None:
    serializer = EncryptedSerializer(keys=[KEY])
    assert KEY not in repr(serializer)
    assert KEY not in str(serializer.describe())
    with temporary_settings({"results_encryption_keys": KEY}) as settings:
        assert KEY not in repr(settings)


@given(at=st.integers(min_value=0), bit=st.integers(0, 7))
def test_a_changed_byte_is_noticed(at: int, bit: int) -> None:
    serializer = EncryptedSerializer(keys=[KEY], serializer="json")
    blob = bytearray(serializer.dumps(["secret"]))
    blob[at % len(blob)] ^= 1 << bit
    with pytest.raises(SerializationError):
        serializer.loads(bytes(blob))


def test_a_missing_extra_is_named() -> None:
    program = (
        "import sys; sys.modules['cryptography.hazmat.primitives.ciphers.aead'] = None\n"
        "from callsheet.serializers import EncryptedSerializer\n"
        "from callsheet.exceptions import MissingDependency\n"
        "try: EncryptedSerializer(keys=[EncryptedSerializer.generate_key()]).dumps(1)\n"
        "except MissingDependency as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "callsheet[encryption]" in done.stdout


def test_ids_are_not_mixed_up() -> None:
    value = uuid4()
    assert JSONSerializer().loads(JSONSerializer().dumps([value, str(value)])) == [value, str(value)]
