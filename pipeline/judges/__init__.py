"""How an order is judged: a coroutine over the image's game under the masking that judges it."""

from collections.abc import Generator
from typing import Any, ClassVar, Protocol

from pipeline.game import Ask, Game, Objective
from pipeline.methods import Attribution


class Judge(Protocol):
    """A frozen dataclass; `version` as of methods."""

    version: ClassVar[int]

    def forwards(self, n_players: int) -> int:
        """At the most, for one objective of an order whose outputs are not known."""
        ...

    def judge(
        self, found: Attribution, objective: Objective, game: Game
    ) -> Generator[Ask, Any, dict[str, Any]]:
        """Columns of the row; `found.path` holds what the search saw under the game's masking, if
        it did."""
        ...
