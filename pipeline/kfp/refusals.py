"""Turns what goes wrong between kfp.Client and its server into one message with a remedy."""

import re
from typing import Any

from optduel.components.core import ClusterError
from optduel.components.decoding import parse_object
from optduel.components.redaction import showable

_LONGEST = 400
"""Characters of a server's own words."""


class SignInPage(Exception):  # noqa: N818  # no error that a user sees
    """A web page came where an answer was due."""


def told(error: Exception, host: str, purpose: str) -> ClusterError:
    """The message for an exception of kfp.Client or urllib3.

    Args:
        error: the exception.
        host: the API's address.
        purpose: what was asked for, as in "not allowed to PURPOSE".
    """
    status = getattr(error, "status", None)
    if isinstance(error, SignInPage):
        return _sign_in(host)
    if status:
        return _refused(error, int(status), host, purpose)
    if isinstance(error, OSError) and error.filename:  # the token's file is read for every request
        return ClusterError(f"{error.filename}: {error.strerror}; the token is read from it")
    reason = _reason(error)
    return ClusterError(f"{host}: Kubeflow Pipelines does not answer: {reason}; {_remedy(reason)}")


def _refused(error: Any, status: int, host: str, purpose: str) -> ClusterError:
    headers = error.headers or {}
    words = _words(error.body)
    detail = f": {words}" if words else ""
    match status:
        case 301 | 302 | 303 | 307 | 308:
            target = headers.get("Location", "")
            if target.startswith("/") or _login(target):
                return _sign_in(host)
            return ClusterError(f"{host}: sends on to {target}; give that address as --host")
        case 401:
            remedy = (
                "give --token-file with a token that is valid now, or --cookie-file with the session's cookie"
            )
            return ClusterError(f"{host}: {status}: no valid token or cookie was given{detail}; {remedy}")
        case 403:
            remedy = "ask for the right to, or check --namespace and --token-file"
            return ClusterError(f"{host}: {status}: not allowed to {purpose}{detail}; {remedy}")
        case 404 if words is None:
            remedy = "check --host; behind a full Kubeflow it ends in /pipeline"
            return ClusterError(f"{host}: {status}: no API of Kubeflow Pipelines 2 is there; {remedy}")
        case _ if status >= 500:
            remedy = "try again; if it stays so, see the log of the deployment ml-pipeline"
            return ClusterError(f"{host}: {status}: cannot {purpose} now{detail}; {remedy}")
        case _:
            return ClusterError(f"{host}: {status}: refuses to {purpose}{detail}; see `optduel doctor`")


def _sign_in(host: str) -> ClusterError:
    return ClusterError(
        f"{host}: a sign-in page answers, not Kubeflow Pipelines; give --token-file or --cookie-file for the "
        "proxy in front, or as --host an address behind it (kubectl port-forward)"
    )


def _login(address: str) -> bool:
    return re.search(r"login|signin|sign_in|oauth|auth/|dex|accounts\.", address, re.IGNORECASE) is not None


def _words(body: Any) -> str | None:
    """What the server says in an error's JSON; "" for nothing, None where it is no JSON of its API."""
    try:
        answer = parse_object(body or "")
    except ValueError:
        return None
    words = answer.get("error_message") or answer.get("message") or answer.get("error") or ""
    text = showable(" ".join(str(words).split()))  # before it is cut
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."


def _reason(error: BaseException) -> str:
    """The cause at the bottom, in few words."""
    names = {type(one).__name__ for one in _causes(error)}
    text = " ".join(str(error).split())
    if {"ConnectTimeoutError", "ReadTimeoutError", "TimeoutError"} & names:
        return "no answer in time"
    if {"NameResolutionError", "gaierror"} & names:
        return "the name of the host is not known"
    if "SSL" in text or "certificate" in text:
        found = re.search(r"\[SSL[^\]]*\]\s*([^(]*)|certificate[^(']*", text)
        return f"TLS: {(found[0] if found else text).strip()}"
    for one in _causes(error):
        if isinstance(one, OSError) and one.strerror:
            return one.strerror.lower()
    return text.rpartition(": ")[2] or type(error).__name__


def _causes(error: BaseException) -> list[BaseException]:
    found: list[BaseException] = []
    following: BaseException | None = error
    while following is not None and following not in found:
        found.append(following)
        reason = getattr(following, "reason", None)
        nested = reason if isinstance(reason, BaseException) else None
        following = nested or following.__cause__ or following.__context__
    return found


def _remedy(reason: str) -> str:
    if reason.startswith("TLS"):
        return "give --ca-file with the authority's certificate, or http:// where the server speaks no TLS"
    return "check --host (KF_PIPELINES_ENDPOINT), and that its port-forward or VPN is up"
