"""The SPIN model: every rule holds in every state, and every broken rule is caught."""

import pytest

from hil_tests.model.run import LIMITS, MODEL, MUTANTS, RULES, Case, check, missing_tools

MISSING = missing_tools()


def test_there_are_at_least_six_broken_rules_and_each_is_in_the_model() -> None:
    text = MODEL.read_text("utf-8")
    flags = {flag for case in (*MUTANTS, *LIMITS) for flag in case.flags if "=" not in flag}
    assert len(MUTANTS) >= 6
    for flag in flags:
        assert f" {flag}\n" in text, flag
    found = {
        word
        for line in text.splitlines()
        if line.startswith(("#if", "#el"))
        for word in line.split()
        if word.startswith(("BUG_", "LIMIT_"))
    }
    ways_to_play = {"LIVENESS", "LATE"}
    assert found == flags - ways_to_play


@pytest.mark.long
@pytest.mark.skipif(bool(MISSING), reason=MISSING)
@pytest.mark.parametrize("case", [*RULES, *MUTANTS, *LIMITS], ids=lambda case: case.name)
def test_the_model_checker_finds_what_it_should_and_nothing_else(case: Case) -> None:
    found = check(case)
    assert found.is_right, found
