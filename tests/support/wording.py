"""Errors that newer servers put in other words than Redis 7.0, whose words the proxy's own are.

Called by tests that compare what the proxy answers itself with the answer of whatever server is tested with.
"""

import re

_UNBALANCED = b"list of streams: for each stream key an ID or '$' must be specified.\r\n"
_NEWER = (
    # Redis 7.2
    (
        re.compile(rb"-ERR Unbalanced 'xread(group)?' list of streams: .*\r\n"),
        b"-ERR Unbalanced XREAD " + _UNBALANCED,
    ),
    (re.compile(rb"-ERR timeout is out of range\r\n"), b"-ERR timeout is negative\r\n"),
    # Redis 8.6, where a command has no arguments.
    (re.compile(rb"(-ERR unknown command '[^']*')\r\n"), rb"\1, with args beginning with: \r\n"),
)


def as_redis_7(reply: bytes) -> bytes:
    """An answer of a server; if it is such an error, in Redis 7.0's words."""
    for pattern, older in _NEWER:
        if pattern.fullmatch(reply):
            return pattern.sub(older, reply)
    return reply
