"""What a node reports to the others: whether its models caption, and how many images they take."""

from dataclasses import dataclass

from pydantic import TypeAdapter, ValidationError

from captiond.messages import Health, ModelInfo, State


@dataclass(frozen=True, slots=True)
class NodeReport:
    """The report of a node. `window` and `reserve` are those of its model processes together.

    `rate` is how many images of tasks it finishes per second. `reasons` and `code` say why it
    cannot caption. `uploads` is `[uploads] url`, empty for a folder of the node.
    """

    health: Health
    model: ModelInfo | None = None
    reasons: tuple[str, ...] = ()
    code: str = ""
    rate: float = 0.0
    window: int = 0
    reserve: int = 0
    uploads: str = ""

    @classmethod
    def of(cls, state: State) -> "NodeReport":
        """Return the report of a node in this state, as far as the state decides it."""
        return cls(state.health, state.model, state.reasons, state.code)

    @property
    def captions(self) -> bool:
        """Whether the node captions now."""
        return self.health is Health.HEALTHY and self.model is not None and self.window > 0


REPORT = TypeAdapter(NodeReport)


def report_text(report: NodeReport) -> str:
    """Return a report as it is stored."""
    return REPORT.dump_json(report).decode()


def report_from(text: str | None) -> NodeReport | None:
    """Return a stored report, or None if there is none or a later version has written it."""
    try:
        return None if text is None else REPORT.validate_json(text)
    except ValidationError:
        return None
