"""One self-contained HTML page of sections: knows how things are shown, not which."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup


@dataclass(frozen=True, kw_only=True)
class Name:
    """What a group of rows is called in every figure, table, gallery and tracked key.

    `title` is the method and, where more than methods varies, the variant; `model` is the name
    that tells the group's model from other models.
    """

    method: str
    variant: str
    model: str

    @property
    def title(self) -> str:
        """Unique among the groups shown together."""
        return f"{self.method}, {self.variant}" if self.variant else self.method


@dataclass(frozen=True, kw_only=True)
class Section:
    """A part of the page, and the models and data sets that it is about."""

    html: Markup
    models: Sequence[str]
    datasets: Sequence[str]
