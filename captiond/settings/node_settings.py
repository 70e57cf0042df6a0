"""The settings of [node]: what this node does, when several share a database."""

from typing import Annotated, Literal

from pydantic import Field

from captiond.notation.textvalues import AnyCase
from captiond.settings.option_settings import Section

Role = Literal["all", "web", "worker"]


class NodeSettings(Section):
    role: Annotated[Role, AnyCase] = Field(
        "all",
        description="What this node does if several share a database: all, web (HTTP without a "
        "model) or worker (a model, and of HTTP only probes and metrics).",
    )
    imports: bool = Field(
        True,
        description="Whether the model processes of this node work at imports that captiond import "
        "--queue has listed. false: this node captions for clients only.",
    )
    lease_seconds: float = Field(
        60,
        ge=3,
        le=3600,
        description="After how many seconds without a sign of life from this node the others "
        "caption its images.",
    )

    @property
    def has_model(self) -> bool:
        """Return whether model processes run here."""
        return self.role != "web"

    @property
    def has_api(self) -> bool:
        """Return whether the HTTP API is served here, beyond probes and metrics."""
        return self.role != "worker"
