"""A rule that makes a positive behaviour of what a column says."""

from __future__ import annotations

from pydantic import Field, model_validator

from recdistill.settings import Settings


class BehaviourRule(Settings):
    """An event gets the behaviour ``name`` if a column satisfies one condition, or always if there is none."""

    name: str = Field(min_length=1, description="the positive behaviour's label")
    column: str | None = Field(None, description="the file's column that the condition reads")
    at_least: float | None = None
    at_most: float | None = None
    equals: bool | int | float | str | None = None
    one_of: tuple[str, ...] = Field((), description="texts, one of which the column has")

    @model_validator(mode="after")
    def _one_condition(self) -> BehaviourRule:
        given = sum(c is not None for c in (self.at_least, self.at_most, self.equals)) + bool(self.one_of)
        if given != (self.column is not None):
            raise ValueError(
                f"behaviour '{self.name}': give a column and one of at_least, at_most, equals, one_of "
                "(or neither: every event has it)"
            )
        return self
