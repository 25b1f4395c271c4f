"""The machines of a Ray cluster: joining them, and whether they can do this work together.

Ray is imported here alone; what else uses it takes it from here.
"""

import os
import secrets
import socket
from pathlib import Path

from vggnb.cluster.work import who_am_i
from vggnb.storage import TEMPORARY_PREFIX, VggnbError

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nobody is told that this runs
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")

try:
    import ray
    from ray.exceptions import RayError, RayTaskError
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
except ImportError as error:
    raise VggnbError(
        "Ray is not installed.", "--engine ray", "pip install 'vggnb[cluster]', or leave --engine at local."
    ) from error

__all__ = ["SAME_PATH", "RayError", "RayTaskError", "check_machines", "connect", "gpus_each", "pinned", "ray"]

SAME_PATH = "All machines must see it under the same path, for example on NFS."
HTTP2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0"  # how a gRPC client begins
QUIET = {"log_to_driver": False, "logging_level": "ERROR"}


def connect(address: str | None) -> None:
    """Join a cluster, or start one on this machine where no address is given.

    Raises:
        VggnbError: nothing answers there, or its Python or Ray is another version.
    """
    where = address or "this machine"
    try:
        if address is None:
            ray.init(address="local", object_store_memory=500_000_000, include_dashboard=False, **QUIET)
            return
        _knock(address)
        ray.init(address=address, **QUIET)
    except (ConnectionError, OSError, ValueError) as error:
        remedy = "Start one with 'ray start --head' and run this on one of its machines; --address is its host:port."
        raise VggnbError(f"No Ray cluster answers ({str(error).strip().splitlines()[0]}).", where, remedy) from error
    except Exception as error:  # of a version, RuntimeError; of a machine that is too busy, just Exception
        remedy = "Install the same Python and the same Ray on all machines; if they are the same, try again."
        raise VggnbError(f"Ray refused: {' '.join(str(error).split())[:500]}", where, remedy) from error


def _knock(address: str) -> None:
    """Find out in seconds whether somebody listens who speaks as Ray does; Ray itself would ask for ever."""
    host, _, port = address.rpartition(":")
    if not port.isdigit():
        return
    with socket.create_connection((host, int(port)), timeout=5) as line:
        if os.environ.get("RAY_USE_TLS", "0") == "0":
            line.sendall(HTTP2)
            if line.recv(4)[3:] != b"\x04":  # a SETTINGS frame
                raise ConnectionError("What answers there is not Ray.")


def gpus_each(asked: int | None) -> int:
    """How many GPUs a worker gets; one, where the cluster has any and nothing else is asked.

    Raises:
        VggnbError: no machine has so many, or fewer than none are asked for.
    """
    most = int(max(node["Resources"].get("GPU", 0) for node in ray.nodes() if node["Alive"]))
    each = min(most, 1) if asked is None else asked
    if not 0 <= each <= most:
        remedy = f"Take 0 to {most}; with 0 the work is done on the processors."
        why = f"A worker cannot take {each}" if each < 0 else f"No machine of the cluster has more than {most}"
        raise VggnbError(f"{why} GPUs.", f"--gpus-per-worker {each}", remedy)
    return each


def pinned(node: str, *, soft: bool = False) -> NodeAffinitySchedulingStrategy:
    """To be run on this machine, or, if `soft`, elsewhere when it is gone."""
    return NodeAffinitySchedulingStrategy(node, soft=soft)


def check_machines(store: Path, dataset: Path) -> None:
    """All machines must have the driver's versions, and see its store and its pictures.

    Raises:
        VggnbError: one that does not, named.
    """
    probe, secret = store / f"{TEMPORARY_PREFIX}probe-{secrets.token_hex(4)}", secrets.token_hex(16)
    nodes = [node["NodeID"] for node in ray.nodes() if node["Alive"]]
    ask, once = ray.remote(who_am_i), {"num_cpus": 0, "max_retries": 0}
    try:
        probe.write_text(secret)
        mine = who_am_i(probe, secret, dataset)
        asked = [ask.options(**once, scheduling_strategy=pinned(node)).remote(probe, secret, dataset) for node in nodes]
        answers = ray.get(asked, timeout=120)
    except RayError as error:
        remedy = "Install vggnb on all machines: python -c 'import vggnb.cluster' must work on each."
        words = str(error).strip().splitlines()[-1]
        raise VggnbError(f"A machine cannot run vggnb ({words}).", "the Ray cluster", remedy) from error
    finally:
        probe.unlink(missing_ok=True)
    for theirs in answers:
        _compare(theirs, mine, store, dataset)


def _compare(theirs: dict, mine: dict, store: Path, dataset: Path) -> None:
    """What one machine said beside what this one says."""
    differ = [f"{name} {found} there, {mine['versions'][name]} here" for name, found in theirs["versions"].items()
              if found != mine["versions"][name] and mine["versions"][name]]  # fmt: skip
    if differ:
        remedy = "Install the same versions on all machines."
        raise VggnbError(f"Versions differ: {'; '.join(differ)}.", f"machine {theirs['host']}", remedy)
    for name, words, place in (("store", "the store", store), ("dataset", "the pictures", dataset)):
        if mine[name] and not theirs[name]:
            raise VggnbError(f"This machine does not see {words}.", f"{place} on {theirs['host']}", SAME_PATH)
