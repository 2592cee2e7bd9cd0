"""How commands and scripts end."""

from __future__ import annotations

import pytest

from recdistill.errors import UserError
from recdistill.exits import exit_codes


@pytest.mark.parametrize(
    ("fault", "code", "said"),
    [
        (UserError("r.yaml: no such recipe", remedy="name a file"), 2, "error: r.yaml: no such recipe\n  remedy: name"),
        (PermissionError(13, "Permission denied", "out"), 2, "Permission denied: 'out'\n  remedy: look at that path"),
        (KeyboardInterrupt(), 130, "goes on from here"),
    ],
)
def test_what_the_user_can_mend_is_printed_alone(
    fault: BaseException, code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    @exit_codes()
    def main() -> None:
        raise fault

    for _ in range(2):  # a decorated function may be called again
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == code
        printed = capsys.readouterr()
        assert said in printed.err and not printed.out and "Traceback" not in printed.err


@pytest.mark.parametrize("fault", [ValueError("ours"), OSError("a library's"), BrokenPipeError(32, "Broken pipe")])
def test_what_is_nobody_s_mistake_keeps_its_traceback(fault: Exception) -> None:
    with pytest.raises(type(fault)), exit_codes():
        raise fault
