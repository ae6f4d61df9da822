from __future__ import annotations

import sys
from contextlib import contextmanager
from datetime import UTC, datetime
from types import SimpleNamespace
from uuid import UUID, uuid4

import pytest

import callsheet
from callsheet.client.schemas.objects import FlowRun, TaskRun
from callsheet.context import FlowRunContext, TaskRunContext
from callsheet.runtime import deployment, flow_run, task_run
from callsheet.settings import temporary_settings

MODULES = [flow_run, task_run, deployment]
FLOW_ID, TASK_ID, DEPLOYMENT_ID = UUID(int=1), UUID(int=2), UUID(int=3)
START = datetime(2024, 5, 6, 7, 8, tzinfo=UTC)


def test_contexts_of_just_what_a_test_needs():
    with FlowRunContext.model_construct(flow_run=FlowRun.model_construct(id="any", run_count=3)):
        assert (flow_run.id, flow_run.run_count, flow_run.tags) == ("any", 3, [])
        with TaskRunContext.model_construct(task_run=TaskRun.model_construct(name="one")):
            assert (flow_run.id, task_run.name) == ("any", "one")
    assert flow_run.id is None


def a_flow_run(**fields):
    return SimpleNamespace(
        **{
            "id": FLOW_ID,
            "name": "quiet-otter",
            "tags": ["a", "b"],
            "expected_start_time": START,
            "flow_id": UUID(int=9),
            "flow_version": "from history",
            "parameters": {"x": "recorded"},
            "run_count": 2,
            "deployment_id": None,
            "deployment_version": None,
            "parent_task_run_id": None,
            **fields,
        }
    )


def a_task_run(**fields):
    return SimpleNamespace(
        **{"id": TASK_ID, "name": "t-0", "tags": ["c"], "flow_run_id": FLOW_ID, "run_count": 3, **fields}
    )


def flow_context(**fields):
    made = {"flow_run": a_flow_run(), "flow": SimpleNamespace(name="f", version="v1"), "parameters": {"x": 1}, **fields}
    return FlowRunContext(**made)


def task_context(**fields):
    return TaskRunContext(
        **{"task_run": a_task_run(), "task": SimpleNamespace(name="t"), "parameters": {"y": 2}, **fields}
    )


@pytest.fixture
def history(monkeypatch):
    """A client over three flow runs, each a subflow of the one before, and a deployment."""
    runs, tracking = {}, {}
    parent = None
    for number in (1, 2, 3):
        run_id = UUID(int=number)
        if parent is not None:
            tracking[UUID(int=100 + number)] = SimpleNamespace(flow_run_id=parent)
        runs[run_id] = a_flow_run(
            id=run_id,
            name=f"run {number}",
            deployment_id=DEPLOYMENT_ID if number == 1 else None,
            deployment_version="7" if number == 1 else None,
            parent_task_run_id=None if parent is None else UUID(int=100 + number),
        )
        parent = run_id
    client = SimpleNamespace(
        read_flow_run=runs.__getitem__,
        read_task_run=tracking.__getitem__,
        read_flow=lambda flow_id: SimpleNamespace(id=flow_id, name="a stored flow"),
        read_deployment=lambda deployment_id: SimpleNamespace(id=deployment_id, name="nightly"),
    )

    @contextmanager
    def get_client(*, sync_client):
        assert sync_client
        yield client

    module = SimpleNamespace(get_client=get_client)
    monkeypatch.setitem(sys.modules, "callsheet.client.orchestration", module)


# ------------------------------------------------------------------------------------------------- outside


def test_outside_of_runs_everything_is_empty():
    before = datetime.now(UTC)
    assert {name: getattr(flow_run, name) for name in dir(flow_run) if name != "scheduled_start_time"} == {
        "id": None,
        "tags": [],
        "name": None,
        "flow_name": None,
        "flow_version": None,
        "parameters": {},
        "parent_flow_run_id": None,
        "root_flow_run_id": None,
        "parent_deployment_id": None,
        "run_count": 0,
        "api_url": None,
        "ui_url": None,
    }
    assert before <= flow_run.scheduled_start_time <= datetime.now(UTC)
    assert {name: getattr(task_run, name) for name in dir(task_run)} == {
        "id": None,
        "name": None,
        "task_name": None,
        "tags": [],
        "parameters": {},
        "run_count": 0,
        "idempotency_token": None,
        "api_url": None,
        "ui_url": None,
    }
    assert {name: getattr(deployment, name) for name in dir(deployment)} == {
        "id": None,
        "name": None,
        "version": None,
        "flow_run_id": None,
        "parameters": {},
    }


def test_the_modules_hang_together():
    assert callsheet.runtime.flow_run is flow_run
    assert callsheet.runtime.task_run is task_run
    assert callsheet.runtime.deployment is deployment


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_dir_lists_the_fields(module):
    assert dir(module) == sorted(module.FIELDS) == sorted(module.__all__)


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_unknown_attributes(module):
    with pytest.raises(AttributeError, match=f"module '{module.__name__}' has no attribute 'nothing'"):
        module.nothing
    with pytest.raises(ImportError):
        exec(f"from {module.__name__} import nothing")


# ------------------------------------------------------------------------------------------------- inside


def test_in_a_flow_run():
    with flow_context():
        found = {name: getattr(flow_run, name) for name in dir(flow_run)}
        assert deployment.flow_run_id == str(FLOW_ID)
        assert task_run.id is None
    assert found == {
        "id": str(FLOW_ID),
        "tags": ["a", "b"],
        "scheduled_start_time": START,
        "name": "quiet-otter",
        "flow_name": "f",
        "flow_version": "v1",
        "parameters": {"x": 1},
        "parent_flow_run_id": None,
        "root_flow_run_id": str(FLOW_ID),
        "parent_deployment_id": None,
        "run_count": 2,
        "api_url": None,
        "ui_url": None,
    }


def test_in_a_task_run():
    with flow_context(), task_context():
        found = {name: getattr(task_run, name) for name in dir(task_run)}
        assert flow_run.name == "quiet-otter"
    assert found == {
        "id": str(TASK_ID),
        "name": "t-0",
        "task_name": "t",
        "tags": ["c"],
        "parameters": {"y": 2},
        "run_count": 3,
        "idempotency_token": None,  # a context that was made by hand is of no call
        "api_url": None,
        "ui_url": None,
    }


def test_what_is_given_out_is_a_copy():
    with flow_context(), task_context():
        for module in (flow_run, task_run):
            module.tags.append("mine")
            module.parameters["mine"] = 1
            assert "mine" not in module.tags
            assert "mine" not in module.parameters


def test_a_task_run_without_its_flow_runs_context_knows_the_id():
    with task_context(task_run=a_task_run(flow_run_id=None)):
        assert flow_run.id is None
        assert flow_run.name is None
    with task_context():
        assert flow_run.id == deployment.flow_run_id == str(FLOW_ID)


def test_addresses():
    with temporary_settings({"CALLSHEET_API_URL": "http://host/api/", "CALLSHEET_UI_URL": "http://host"}):
        assert flow_run.api_url is None
        with flow_context(), task_context():
            assert flow_run.api_url == f"http://host/api/flow_runs/{FLOW_ID}"
            assert flow_run.ui_url == f"http://host/runs/flow-run/{FLOW_ID}"
            assert task_run.api_url == f"http://host/api/task_runs/{TASK_ID}"
            assert task_run.ui_url == f"http://host/runs/task-run/{TASK_ID}"


def test_parents_of_a_living_run_are_known_without_history():
    def cell(run_id, around):
        record = SimpleNamespace(deployment_id=DEPLOYMENT_ID)
        return SimpleNamespace(id=run_id, flow=around, actor=SimpleNamespace(record=record))

    root = cell(uuid4(), None)
    middle = cell(uuid4(), root)
    inner = cell(FLOW_ID, middle)
    with flow_context(run=SimpleNamespace(cell=inner)):
        assert flow_run.parent_flow_run_id == str(middle.id)
        assert flow_run.root_flow_run_id == str(root.id)
        assert flow_run.parent_deployment_id == str(DEPLOYMENT_ID)
    with flow_context(run=SimpleNamespace(cell=root)):
        assert flow_run.parent_flow_run_id is None
        assert flow_run.root_flow_run_id == str(root.id)
        assert flow_run.parent_deployment_id is None


# ------------------------------------------------------------------------------------------------- by id, from history


def test_an_id_from_the_environment_is_read_from_history(history, monkeypatch):
    monkeypatch.setenv("CALLSHEET__FLOW_RUN_ID", str(UUID(int=3)))
    assert flow_run.id == str(UUID(int=3))
    assert flow_run.name == "run 3"
    assert flow_run.flow_name == "a stored flow"
    assert flow_run.flow_version == "from history"
    assert flow_run.parameters == deployment.parameters == {"x": "recorded"}
    assert flow_run.tags == ["a", "b"]
    assert flow_run.run_count == 2
    assert flow_run.scheduled_start_time == START
    assert flow_run.parent_flow_run_id == str(UUID(int=2))
    assert flow_run.root_flow_run_id == str(UUID(int=1))
    assert flow_run.parent_deployment_id is None
    assert deployment.id is None
    assert deployment.name is None
    monkeypatch.setenv("CALLSHEET__FLOW_RUN_ID", str(UUID(int=2)))
    assert flow_run.parent_deployment_id == str(DEPLOYMENT_ID)
    monkeypatch.setenv("CALLSHEET__FLOW_RUN_ID", str(UUID(int=1)))
    assert (flow_run.parent_flow_run_id, flow_run.root_flow_run_id) == (None, str(UUID(int=1)))
    assert (deployment.id, deployment.name, deployment.version) == (str(DEPLOYMENT_ID), "nightly", "7")


def test_a_run_goes_before_the_environment(monkeypatch):
    monkeypatch.setenv("CALLSHEET__FLOW_RUN_ID", str(UUID(int=3)))
    with flow_context():
        assert flow_run.id == str(FLOW_ID)


# ------------------------------------------------------------------------------------------------- mocks


def test_fields_can_be_patched(monkeypatch):
    monkeypatch.setitem(flow_run.FIELDS, "name", lambda: "patched")
    monkeypatch.setitem(task_run.FIELDS, "brand_new", lambda: 1)
    assert flow_run.name == "patched"
    assert task_run.brand_new == 1
    assert "brand_new" in dir(task_run)


@pytest.mark.parametrize(
    ("value", "text", "mocked"),
    [
        ("real", "mock", "mock"),
        (None, "mock", "mock"),
        (1, "7", 7),
        (1.5, "2.5", 2.5),
        (True, "false", False),
        (False, "True", True),
        (START, "2030-01-02T03:04:05+00:00", datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)),
    ],
)
@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_variables_mock_by_the_type_of_the_real_value(monkeypatch, module, value, text, mocked):
    variable = f"CALLSHEET__RUNTIME__{module.__name__.rpartition('.')[2].upper()}__SOME_FIELD"
    monkeypatch.setitem(module.FIELDS, "some_field", lambda: value)
    assert module.some_field == value
    monkeypatch.setenv(variable, text)
    assert module.some_field == mocked
    assert type(module.some_field) is type(mocked)


def test_lists_and_dicts_cannot_be_mocked(monkeypatch):
    for name in ("TAGS", "PARAMETERS"):
        monkeypatch.setenv(f"CALLSHEET__RUNTIME__FLOW_RUN__{name}", "[]")
        with pytest.raises(ValueError, match=f"cannot be mocked by CALLSHEET__RUNTIME__FLOW_RUN__{name}; patch FIELDS"):
            getattr(flow_run, name.lower())


def test_variables_add_fields(monkeypatch):
    monkeypatch.setenv("CALLSHEET__RUNTIME__TASK_RUN__COLOUR", "red")
    assert task_run.colour == "red"
    with pytest.raises(AttributeError):
        flow_run.colour


def test_a_mock_inside_a_run(monkeypatch):
    monkeypatch.setenv("CALLSHEET__RUNTIME__FLOW_RUN__RUN_COUNT", "9")
    with flow_context():
        assert flow_run.run_count == 9
