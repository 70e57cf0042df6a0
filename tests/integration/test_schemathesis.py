"""schemathesis makes requests from the OpenAPI document, and checks each answer against it.

No answer has a status of 5xx, nor a status, a content type, a header or a type that the document
does not have. A request that the document allows is accepted, and one that it forbids is refused.

With `FAULT_SOAK`, each operation gets many more requests (`make soak`).
"""

import base64
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode
from schemathesis.openapi import from_dict, media_type

from captiond.web.dialects.names import OUR_NAME
from captiond.web.openapi.document import document
from captiond.web.openapi.request_bodies import IMAGE_TYPES
from captiond.web.operation import Operation
from captiond.web.operations import OPERATIONS
from tests.conftest import png
from tests.faults.harness import record, rounds
from tests.recorded import message_of, responses_of
from tests.service import DATA, Service, running

EXAMPLES = rounds(8, 120)  # requests of each operation, of each of the two kinds
TAKES_ALL = {
    "CAPTIOND_WEBHOOKS__ALLOW": "hooks.example",
    "CAPTIOND_WEBHOOKS__SECRET": "whsec_" + "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz",
    "CAPTIOND_IMAGES__ROOT": str(DATA),
    "CAPTIOND_CLIENTS__LISTS": "all",
}
IMAGES = [png(number, side=40) for number in range(3)]
TEXT = base64.b64encode(IMAGES[0]).decode()
DOCUMENTS: dict[str, dict[str, Any]] = {
    "ollama_generate": {"model": OUR_NAME, "images": [TEXT]},
    "ollama_chat": {"model": OUR_NAME, "messages": [{"role": "user", "images": [TEXT]}]},
    "ollama_show": {"model": OUR_NAME},
    "openai_chat_completions": {"model": OUR_NAME, "messages": [message_of(IMAGES[0])]},
    "openai_responses": responses_of(IMAGES[0], OUR_NAME),
    "photoprism_caption": {"images": [TEXT], "url": ""},
    "photoprism_labels": {"images": [TEXT], "url": ""},
}
MODES = (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)
API = from_dict(document(OPERATIONS, {}))
media_type("image/png", st.sampled_from(IMAGES), aliases=IMAGE_TYPES.split(", "))


def can_be_wrong(operation: Operation) -> bool:
    """Whether there can be a wrong request of an operation."""
    bounded = [each for each in operation.parameters if each.schema is not str]
    return bool(bounded or operation.form or operation.body)


KINDS = [
    (operation, mode)
    for operation in OPERATIONS
    for mode in MODES
    if mode is GenerationMode.POSITIVE or can_be_wrong(operation)
]


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service that takes all that the document describes."""
    data = tmp_path_factory.mktemp("schemathesis") / "data"
    with running(data, **TAKES_ALL) as service:
        yield service
        assert service.logged("request_failed") == []


@pytest.fixture(scope="module")
def task_id(api: Service) -> str:
    """A finished task."""
    accepted = api.client.post("/async-batch-caption", files={"images": ("a.png", IMAGES[0])})
    task: str = accepted.json()["task_id"]
    api.finished(task)
    return task


@pytest.mark.parametrize(
    ("operation", "mode"), KINDS, ids=[f"{kind.name}-{mode.value}" for kind, mode in KINDS]
)
def test_answers_are_those_of_the_document(
    api: Service, task_id: str, operation: Operation, mode: GenerationMode
) -> None:
    sent = 0

    @settings(
        max_examples=EXAMPLES,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(case=API[operation.path][operation.method].as_strategy(mode), known=st.booleans())
    def check(case: Case[Any], known: bool) -> None:
        nonlocal sent
        if mode is GenerationMode.POSITIVE:
            make_plausible(case)
            make_plausible_document(operation.name, case.body)
            if known and "task_id" in case.path_parameters:
                case.path_parameters["task_id"] = task_id
        else:
            assume(not has_blank_field(case.body))
        case.call_and_validate(base_url=api.url)
        sent += 1

    check()
    record(f"schemathesis {operation.name} {mode.value}", requests=sent)


def make_plausible(case: Case[Any]) -> None:
    """Change what the document allows in a request, but the service's state or settings forbid."""
    if "Idempotency-Key" in case.headers:
        case.headers["Idempotency-Key"] = uuid4().hex  # it may be used only once
    case.query.pop("cursor", None)  # it is opaque
    if isinstance(case.body, dict):
        make_plausible_body(case.body, in_json=case.media_type == "application/json")


def make_plausible_document(name: str, body: Any) -> None:
    """Put images and the model's name into a document of a dialect, which allows any texts there.

    What is there for the form of the answer is taken away: a JSON schema is any object, but not
    every object is a JSON schema.
    """
    if name in DOCUMENTS:
        body |= DOCUMENTS[name]
        for form in ("format", "response_format", "text"):
            body.pop(form, None)


def make_plausible_body(body: dict[str, Any], *, in_json: bool) -> None:
    usual: dict[str, Any] = {
        "callback_url": "http://hooks.example/",
        "caption_language": "en",  # without a model for translations
        "language": "en",
        "path": "red_circle.png",
        "rerank": False,  # this model cannot do it
        "vocabulary": ["boat", "red sun"] if in_json else "boat, red sun",  # a tag has a letter
    }
    if not in_json:  # a list is one text there, and the document does not bound its parts
        usual |= {"tag_allow": "cat*, dog", "tag_deny": "sky"}
    body |= {name: value for name, value in usual.items() if name in body}
    if "vocabulary" in body:
        body.pop("tag_kinds", None)  # they would have to include its tags
    if "image" in body:
        body.pop("path", None)  # one image only
        if in_json:
            body["image"] = TEXT
    if in_json and "images" in body:
        body["images"] = [TEXT, {"image": f"data:image/png;base64,{TEXT}"}]
    elif isinstance(body.get("images"), bytes):
        body["images"] = [body["images"]]  # else it is sent as a field that is no file
    for smaller, larger in (("num_captions", "num_beams"), ("min_new_tokens", "max_new_tokens")):
        if smaller in body:
            body[larger] = max(body.get(larger, 0), body[smaller], 1)


def has_blank_field(body: Any) -> bool:
    """Whether a body has a field that counts as absent, so that its value cannot be wrong."""
    if isinstance(body, dict):
        return any(map(is_absent, body.values())) or any(map(has_blank_field, body.values()))
    return isinstance(body, list) and any(map(has_blank_field, body))


def is_absent(value: object) -> bool:
    return value is None or (isinstance(value, str) and not value.strip())
