"""The progress bar: text on stderr; in a notebook, text on stdout that clears itself."""

from types import SimpleNamespace

import pytest

from vggnb import progress


@pytest.mark.parametrize("config, streams", [({}, "err"), ({"IPKernelApp": {}}, "out")])
def test_a_bar_in_a_notebook_leaves_nothing_behind(config, streams, monkeypatch, capsys):
    shell = SimpleNamespace(config=config)
    monkeypatch.setitem(progress.sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    assert list(progress.tqdm(range(3), "counting", mininterval=0)) == [0, 1, 2]
    found = capsys.readouterr()
    shown, other = (found.out, found.err) if streams == "out" else (found.err, found.out)
    assert "counting" in shown and not other
    assert ("3/3" in shown.split("\r")[-1]) == (streams == "err") and (not shown.split("\r")[-1]) == (streams == "out")
