"""Bundles that were made to do harm, or that harm was done to, are refused before anything happens; and cheaply."""

import pytest
from faults.hostile import CASES
from programs import told_by

pytestmark = [pytest.mark.slow, pytest.mark.stack]


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    """What `faults.hostile` saw when it opened all of them, in a process of its own."""
    return told_by("-m", "faults.hostile", tmp_path_factory.mktemp("hostile"))[0]


def test_a_good_bundle_is_opened_without_any_effect(opened):
    assert opened["good"]["refusal"] is None and opened["good"]["effects"] == []


@pytest.mark.parametrize("name", CASES)
def test_it_is_refused_before_any_effect(name, opened):
    """Each is verified, then loaded; verifying finds all but other numbers by itself, before its fresh process."""
    tried = opened["cases"][name]
    assert tried[-1]["refusal"], "it was let in"
    for attempt in tried:
        assert attempt["effects"] == []
        assert attempt["cpu_s"] < 2 and attempt["bytes"] < 300e6


def test_harm_would_have_been_seen(opened):
    assert opened["harm"]
    for name, attempt in opened["harm"].items():
        assert attempt["effects"], name
