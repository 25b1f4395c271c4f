"""HTTP requests, tried again after a transient failure."""

import time
from collections.abc import Callable

from vggnb.storage import VggnbError

TIMEOUT_S = 30.0  # without a byte
PAUSES = (1.0, 3.0, 10.0)  # seconds before the second to the fourth attempt
_TRANSIENT = (None, 408, 425, 429, 500, 502, 503, 504)  # None: no answer, or one that broke off
OPTIONS = {"headers": {"User-Agent": "vggnb"}}


def get(address: str) -> bytes:
    """The body of the answer to a GET request; raises as `with_attempts`."""

    def attempt() -> bytes:
        answer = needed("requests").get(address, timeout=TIMEOUT_S, **OPTIONS)
        answer.raise_for_status()
        return answer.content

    return with_attempts(attempt, address)


def with_attempts(attempt: Callable, address: str):
    """The result of `attempt()`, which uses requests.

    Raises:
        VggnbError: the server refused, or kept failing.
    """
    requests = needed("requests")
    for pause in (*PAUSES, None):
        try:
            return attempt()
        except requests.RequestException as error:
            code = getattr(error.response, "status_code", None)
            if pause is None or code not in _TRANSIENT or isinstance(error, ValueError):  # not an address
                why = f"{code} {error.response.reason}" if code else f"{type(error).__name__}: {str(error)[:200]}"
                remedy = "Check the address and the network, then run this again."
                raise VggnbError(f"The download failed ({why}).", address.split("?")[0], remedy) from error
        time.sleep(pause)
    raise AssertionError("unreachable")


def needed(package: str):
    """The package, imported; or how to install it."""
    try:
        return __import__(package)
    except ImportError:
        raise VggnbError(
            f"Downloads need the package {package}.", package, f'Install it: pip install {package} (or "vggnb[data]").'
        ) from None
