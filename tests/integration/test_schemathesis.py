"""schemathesis makes requests from the OpenAPI document, and checks each answer against it.

No answer has a status of 5xx, nor a status, a content type, a header or a type that the document
does not have. A request that the document allows is accepted, and one that it forbids is refused.

With `FAULT_SOAK`, each operation gets many more requests (`make soak`).
"""

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode
from schemathesis.openapi import from_dict, media_type

from captiond.web.openapi.document import document
from captiond.web.openapi.request_bodies import IMAGE_TYPES
from captiond.web.operation import Operation
from captiond.web.operations import OPERATIONS
from tests.conftest import png
from tests.faults.harness import record, rounds
from tests.service import DATA, Service, running

EXAMPLES = rounds(8, 120)  # requests of each operation, of each of the two kinds
ACCEPTS_HOOKS = {
    "CAPTIOND_WEBHOOKS__ALLOW": "hooks.example",
    "CAPTIOND_WEBHOOKS__SECRET": "whsec_" + "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz",
    "CAPTIOND_IMAGES__ROOT": str(DATA),
}
IMAGES = [png(number, side=40) for number in range(3)]
API = from_dict(document(OPERATIONS, {}))
media_type("image/png", st.sampled_from(IMAGES), aliases=IMAGE_TYPES.split(", "))


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service that takes all that the document describes."""
    data = tmp_path_factory.mktemp("schemathesis") / "data"
    with running(data, **ACCEPTS_HOOKS) as service:
        yield service
        assert service.logged("request_failed") == []


@pytest.fixture(scope="module")
def task_id(api: Service) -> str:
    """A finished task."""
    accepted = api.client.post("/async-batch-caption", files={"images": ("a.png", IMAGES[0])})
    task: str = accepted.json()["task_id"]
    api.finished(task)
    return task


@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)
def test_answers_are_those_of_the_document(
    api: Service, task_id: str, operation: Operation, mode: GenerationMode
) -> None:
    sent = 0
    described = API[operation.path][operation.method]
    if mode is GenerationMode.NEGATIVE and not takes_anything(operation):
        described_cases = described.as_strategy(GenerationMode.POSITIVE)
    else:
        described_cases = described.as_strategy(mode)

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(case=described_cases, known=st.booleans())
    def check(case: Case, known: bool) -> None:
        nonlocal sent
        if mode is GenerationMode.POSITIVE:
            make_plausible(case)
            if known and "task_id" in (case.path_parameters or {}):
                case.path_parameters["task_id"] = task_id
        case.call_and_validate(base_url=api.url)
        sent += 1

    check()
    record(f"schemathesis {operation.name} {mode.value}", done=sent)
