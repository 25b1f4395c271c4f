"""What this code runs on, what importing costs, and the progress bar."""

import subprocess
import sys
from types import SimpleNamespace

import pytest

from vggnb import machine
from vggnb.storage import VggnbError


@pytest.mark.parametrize(
    "env, shell, expected",
    [
        ("", "", "local"),
        ("", "<google.colab._shell.Shell object at 0x7f>", "colab"),
        ("COLAB_RELEASE_TAG", "", "colab"),  # a subprocess has no shell
        ("KAGGLE_KERNEL_RUN_TYPE COLAB_RELEASE_TAG", "", "kaggle"),
        ("COLAB_RELEASE_TAG /kaggle/working", "", "kaggle"),
        ("BINDER_SERVICE_HOST", "", "binder"),
        ("VSCODE_PID", "<ipykernel.zmqshell.ZMQInteractiveShell object>", "local"),
    ],
)
def test_environment_follows_from_variables_shell_and_folders(env, shell, expected, monkeypatch, tmp_path):
    for name in ("COLAB_RELEASE_TAG", "KAGGLE_KERNEL_RUN_TYPE", "BINDER_SERVICE_HOST"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(machine, "running_shell", lambda: shell)
    monkeypatch.setattr(machine, "KAGGLE_WORKING", tmp_path if "/kaggle" in env else tmp_path / "nowhere")
    for name in env.split():
        monkeypatch.setenv(name, "x")
    assert machine.environment() == expected


def test_versions_device_and_threads_are_found_without_importing(monkeypatch):
    found = machine.versions()
    assert found["python"] and found["numpy"] and "tensorflow" in found
    assert "CPU cores" in machine.device_words() and machine.threads() is None
    monkeypatch.setenv("VGGNB_THREADS", "2")
    assert machine.threads() == 2
    for wrong in ("0", "two", "-1", "1.5", "²"):
        monkeypatch.setenv("VGGNB_THREADS", wrong)
        with pytest.raises(VggnbError, match="whole number"):
            machine.threads()


def test_importing_takes_nothing_along():
    heavy = "{'tensorflow', 'keras', 'kagglehub', 'pooch', 'matplotlib'}"
    code = "import sys; before = set(sys.modules); import vggnb; print(*set(sys.modules) - before); "
    code += f"import vggnb.paths, vggnb.datasets; assert not {heavy} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.split() == ["vggnb"]


@pytest.mark.parametrize("config, streams", [({}, "err"), ({"IPKernelApp": {}}, "out")])
def test_a_bar_in_a_notebook_leaves_nothing_behind(config, streams, monkeypatch, capsys):
    shell = SimpleNamespace(config=config)
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    assert list(machine.tqdm(range(3), "counting", mininterval=0)) == [0, 1, 2]
    found = capsys.readouterr()
    shown, other = (found.out, found.err) if streams == "out" else (found.err, found.out)
    assert "counting" in shown and not other
    assert ("3/3" in shown.split("\r")[-1]) == (streams == "err") and (not shown.split("\r")[-1]) == (streams == "out")
