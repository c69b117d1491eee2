"""When a certificate is to be ordered, and how long to wait after a failure.

- Renewal begins with a third of the lifetime left; the server's advice (RFC 9773) comes before that rule, but never
  later than with a sixth left: there has to be time for attempts that fail.
- Pauses after failures double from two minutes to six hours: five attempts in the first hour, which is what Let's
  Encrypt allows for one name. A server that says that there were too many is left alone for an hour.

Pure: times in seconds since 1970 come in.
"""

from essaim.cluster.acme import Failure, OrderedCertificate

PART_LEFT = 3
LEAST_LEFT = 6
PAUSE_FIRST = 120.0
PAUSE_MOST = 6 * 3600.0
PAUSE_LIMITED = 3600.0


def renewal_at(certificate: OrderedCertificate) -> float:
    """When to order the next one; 0 for at once."""
    if not certificate.chain or certificate.is_forced:
        return 0
    lifetime = certificate.not_after - certificate.not_before
    if certificate.advised_at:
        return min(certificate.advised_at, certificate.not_after - lifetime / LEAST_LEFT)
    return certificate.not_after - lifetime / PART_LEFT


def due_at(certificate: OrderedCertificate) -> float:
    """When there is something to do: at once while an order is in progress, never before a failure's pause is over."""
    at = 0.0 if certificate.order is not None else renewal_at(certificate)
    return max(at, certificate.failure.retry_at) if certificate.failure is not None else at


def failed(before: Failure | None, reason: str, now: float, *, is_limited: bool = False) -> Failure:
    """One more failure in a row, and when to try again."""
    attempts = (before.attempts if before is not None else 0) + 1
    pause = min(PAUSE_FIRST * 2 ** min(attempts - 1, 20), PAUSE_MOST)
    if is_limited:
        pause = max(pause, PAUSE_LIMITED)
    return Failure(reason=reason, attempts=attempts, at=now, retry_at=now + pause)
