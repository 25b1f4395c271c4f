"""Bundles that were made to do harm, or that harm was done to, are refused before anything happens; and cheaply."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from faults.hostile import CASES

ROOT = Path(__file__).resolve().parents[1]
pytestmark = [pytest.mark.slow, pytest.mark.stack]


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    """What `faults.hostile` saw when it opened all of them, in a process of its own."""
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    command = [sys.executable, "-m", "faults.hostile", str(tmp_path_factory.mktemp("hostile"))]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path})
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


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
    for name, attempt in opened["harm"].items():
        assert attempt["effects"], name
