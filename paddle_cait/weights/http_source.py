"""One HTTP(S) request and a judgement of its answer: redirects, statuses, what the server states of the file.

Standard library only; proxies are those of the environment (https_proxy, no_proxy)."""

from __future__ import annotations

import base64
import email.utils
import html
import http.client
import re
import ssl
import time
import urllib.request
from typing import Any
from urllib.error import URLError
from urllib.parse import quote, urljoin, urlsplit, urlunsplit

from paddle_cait.errors import WeightsError
from paddle_cait.versions import __version__

MOST_REDIRECTS = 10
_REDIRECTS = (301, 302, 303, 307, 308)
_BUSY = (408, 425, 429, 500, 502, 503, 504)
_PAGE = re.compile(rb"(\xef\xbb\xbf)?\s*<(!doctype html|html|head|!--)", re.I)
_TITLE = re.compile(rb"<title[^>]*>([^<]{1,200})", re.I)
_RANGE = re.compile(r"\s*bytes (\d+)-(\d+)/(\d+|\*)\s*")


class DownloadError(WeightsError):
    """A file that cannot be had from an address."""


class NotThereError(DownloadError):
    """The server answers, and has no such file."""


class AgainError(Exception):
    """A failure that may pass. ``wait``: seconds that the server asks for; ``met``: it has answered at all."""

    def __init__(self, message: str, wait: float | None = None, met: bool = True) -> None:
        super().__init__(message)
        self.wait, self.met = wait, met


def shown(address: str) -> str:
    """An address for a message: without its query, which may hold a signature."""
    return address.partition("?")[0]


def check_address(address: str, came_from: str = "") -> None:
    """Raise :class:`DownloadError` unless this is the http(s) address of a server, and not http after https."""
    try:
        parts = urlsplit(address)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        valid = False
    if came_from and not valid:
        raise DownloadError(f"{shown(came_from)}: redirects to {shown(address)[:100]!a}, which is not followed")
    if not valid:
        raise DownloadError(f"{shown(address)[:200]!a}: is no address of a server, expected https://...")
    if parts.username is not None:
        raise DownloadError(f"{parts.scheme}://...@{parts.hostname}: user names and passwords are not sent")
    if came_from.startswith("https:") and parts.scheme == "http":
        raise DownloadError(
            f"{shown(came_from)}: redirects to http://{parts.hostname}, where the file could be exchanged on its way: "
            "not followed"
        )


def ask(address: str, extra: dict[str, str], timeout: float) -> tuple[Any, dict[str, str]]:
    """The answer at the end of all redirects, and the digests of the file that were stated on the way.

    ``extra``: further headers. The answer is an ``http.client.HTTPResponse``, to be closed. Raises
    :class:`AgainError`, :class:`DownloadError`.
    """
    # Of these handlers alone: no files, no ftp; redirects and statuses are judged here.
    opener = urllib.request.OpenerDirector()
    for handler in ("ProxyHandler", "HTTPHandler", "HTTPSHandler", "UnknownHandler"):
        opener.add_handler(getattr(urllib.request, handler)())
    headers = {"User-Agent": f"paddle-cait/{__version__}", "Accept-Encoding": "identity", **extra}
    digests: dict[str, str] = {}
    first = address
    for _ in range(MOST_REDIRECTS + 1):
        answer = _open(opener, urllib.request.Request(_quoted(address), headers=headers), timeout)
        digests.update(_digests(answer.headers))
        location = answer.headers.get("location")
        if answer.status not in _REDIRECTS or not location:
            return answer, digests
        answer.close()
        came_from, address = address, urljoin(address, location)
        check_address(address, came_from)
    raise DownloadError(f"{shown(first)}: redirects more than {MOST_REDIRECTS} times, likely in a circle")


def _open(opener: urllib.request.OpenerDirector, request: urllib.request.Request, timeout: float) -> Any:
    try:
        return opener.open(request, timeout=timeout)
    except URLError as error:  # the server was not reached
        reason = error.reason
        if isinstance(reason, ssl.SSLCertVerificationError):
            raise DownloadError(
                f"{shown(request.full_url)}: the certificate is not trusted ({reason.verify_message}); behind a proxy "
                "that opens connections, set SSL_CERT_FILE to the proxy's own"
            ) from error
        raise AgainError(f"cannot be reached ({_said(reason)})", met=False) from error
    except (ValueError, http.client.InvalidURL) as error:
        raise DownloadError(f"{shown(request.full_url)!a}: is no valid address ({_said(error)})") from error
    except (OSError, http.client.HTTPException) as error:
        raise AgainError(_broken(error, timeout)) from error


def read_some(answer: Any, most: int, timeout: float) -> bytes:
    """Up to ``most`` bytes as soon as there are any; ``b""`` at the end, also at one that comes too early."""
    try:
        return bytes(answer.read1(most))
    except (OSError, http.client.HTTPException) as error:
        raise AgainError(_broken(error, timeout)) from error


def _broken(error: Exception, timeout: float) -> str:
    if isinstance(error, TimeoutError) or "timed out" in str(error):  # before Python 3.10 it is another class
        return f"nothing came for {timeout:g} s"
    return f"the connection broke ({_said(error)})"


def _said(error: object) -> str:
    """An error in one short line; it may quote the server."""
    said = str(getattr(error, "strerror", None) or error or type(error).__name__)
    return "".join(sign if sign.isprintable() else " " for sign in said)[:100].strip()


def check_answer(answer: Any, address: str, timeout: float) -> None:
    """Raise unless the answer is (a part of) a file as it is."""
    code = answer.status
    says = f"HTTP {code} {http.client.responses.get(code, '')}".rstrip()
    if code in (404, 410):
        raise NotThereError(f"{shown(address)}: is not there ({says})")
    if code in _BUSY:
        raise AgainError(f"the server answers {says}", _retry_after(answer.headers.get("retry-after")))
    if code == 407:
        raise DownloadError(f"{shown(address)}: the proxy wants a password ({says}): https_proxy=http://USER:WORD@HOST")
    if code not in (200, 206):
        raise DownloadError(f"{shown(address)}: is refused ({says})")
    encoding = str(answer.headers.get("content-encoding") or "identity").strip().lower()
    if encoding != "identity":
        raise DownloadError(f"{shown(address)}: comes compressed ({encoding[:20]!a}), not as the file itself")
    if answer.headers.get_content_type() in ("text/html", "application/xhtml+xml"):
        raise web_page(address, read_some(answer, 1 << 14, timeout))


def is_web_page(start: bytes) -> bool:
    return _PAGE.match(start) is not None


def web_page(address: str, start: bytes) -> DownloadError:
    """The error that says what came in place of the file."""
    title = _TITLE.search(start)
    called = f" ({html.unescape(title[1].decode('utf-8', 'replace')).strip()[:80]!a})" if title else ""
    return DownloadError(
        f"{shown(address)}: a web page came{called} in place of the file: a network's login, or a host that wants a "
        "click; open the address in a browser"
    )


def continued_size(answer: Any, have: int, size: int | None, validator: str) -> int | None:
    """The size of the whole file, if a 206 is the rest of the one of which ``have`` bytes are here; else None.

    ``size``, ``validator``: of that one, as far as known.
    """
    found = _RANGE.fullmatch(str(answer.headers.get("content-range")))
    if not found or int(found[1]) != have or validator_of(answer.headers) not in (None, validator):
        return None
    end = int(found[2]) + 1
    return end if {size or end, end if found[3] == "*" else int(found[3])} == {end} else None


def validator_of(headers: Any) -> str | None:
    """What If-Range takes: an ETag that changes with every byte (not ``W/...``), else the date of the last change."""
    tag = headers.get("etag")
    return tag if tag and tag.startswith('"') else headers.get("last-modified")


def _digests(headers: Any) -> dict[str, str]:
    """hashlib's name -> hex: MD5 from Google's storage, sha256 from Hugging Face's redirect; few servers state one."""
    found = {}
    for value in headers.get_all("x-goog-hash") or ():
        coded = re.search(r"\bmd5=([A-Za-z0-9+/]{22}==)", value)
        if coded:
            found["md5"] = base64.b64decode(coded[1]).hex()
    linked = str(headers.get("x-linked-etag")).strip('"')
    if re.fullmatch("[0-9a-f]{64}", linked):
        found["sha256"] = linked
    return found


def _retry_after(value: str | None) -> float | None:
    """Seconds, from a number or a date."""
    if value is None or re.fullmatch(r"\s*[0-9]{1,9}\s*", value):
        return None if value is None else float(value)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (TypeError, ValueError, IndexError, OverflowError):
        return None


def _quoted(address: str) -> str:
    """Spaces and letters beyond ASCII as a request wants them; what is quoted already stays."""
    parts = urlsplit(address)
    return urlunsplit((parts.scheme, parts.netloc, quote(parts.path, safe="/%+~!$&'()*,;=:@"), parts.query, ""))
