"""Downloads that go on where they stopped, try again when a server stumbles, and say in words why they failed."""

import http.client
import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from vggnb.storage import VggnbError, storage_errors

TIMEOUT = 30.0  # seconds without a byte
PAUSES = (1.0, 3.0, 10.0)  # before the second to the fourth try
_PIECE = 1 << 16
_STUMBLES = (408, 416, 425, 429, 500, 502, 503, 504)


def download(address: str, file: Path, *, tell: Callable[[int], object] | None = None) -> None:
    """Fetch `address` into `file`; what an earlier call got of it is kept and continued. The caller checks the bytes.

    Args:
        tell: called with the number of bytes of each piece, negative when the server makes us begin again.

    Raises:
        VggnbError: the server refused, or kept failing; what has arrived stays for the next call.
    """
    if not address.lower().startswith(("https://", "http://")):
        raise VggnbError("Only http and https addresses can be fetched.", address, "Check the address.")
    for pause in (*PAUSES, None):
        try:
            _go_on(address, file, tell or (lambda count: None))
            return
        except urllib.error.HTTPError as error:
            error.close()
            if error.code == 416:  # it is longer than what the server has: not the same file
                with storage_errors(file):
                    file.unlink(missing_ok=True)
            if error.code not in _STUMBLES or pause is None:
                raise _failed(address, f"{error.code} {error.reason}") from error
        except (OSError, http.client.HTTPException) as error:
            if pause is None:
                raise _failed(address, str(getattr(error, "reason", error)) or type(error).__name__) from error
        time.sleep(pause)


def fetch_json(address: str, scratch: Path) -> object:
    """Fetch a JSON document, by way of a scratch file."""
    scratch.unlink(missing_ok=True)
    download(address, scratch)
    try:
        return json.loads(scratch.read_bytes())
    except ValueError as error:
        raise _failed(address, "the answer is not JSON") from error
    finally:
        scratch.unlink(missing_ok=True)


def _go_on(address: str, file: Path, tell: Callable[[int], object]) -> None:
    """One try: ask for what is missing and append it."""
    done = file.stat().st_size if file.exists() else 0
    headers = {"User-Agent": "vggnb", "Accept-Encoding": "identity"}
    if done:
        headers["Range"] = f"bytes={done}-"
    with urllib.request.urlopen(urllib.request.Request(address, headers=headers), timeout=TIMEOUT) as answer:
        if done and answer.status != 206:  # the server sends the whole
            tell(-done)
            done = 0
        length = answer.headers.get("Content-Length")
        with storage_errors(file):
            target = open(file, "ab" if done else "wb")  # noqa: SIM115
        with target:
            got = 0
            while piece := answer.read(_PIECE):
                with storage_errors(file):
                    target.write(piece)
                got += len(piece)
                tell(len(piece))
    if length is not None and got < int(length):
        raise http.client.IncompleteRead(b"", int(length) - got)


def _failed(address: str, why: str) -> VggnbError:
    remedy = "Check the address and the network, then run this again: what has arrived is kept."
    return VggnbError(f"The download failed ({why}).", address.split("?")[0], remedy)
