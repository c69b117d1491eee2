"""Answers to DNS questions about names on a network.

- A known name has addresses (A) and nothing else: other types get an empty answer, not "no such name".
- The order is turned with each question, so that clients which take the first address spread.
- What is not known here is for the node's resolvers, if it could be a name of the outside (it has a dot).

Pure: messages in, messages out.
"""

from collections.abc import Callable

import dns.flags
import dns.message
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset

TTL = 2
"""Seconds: replicas come and go."""
MOST = 25
"""Addresses in one answer: what fits into a datagram of 512 bytes."""


Lookup = Callable[[str], list[str] | None]
"""From a lower-case name to its addresses; None when it is unknown."""


def answer(query: dns.message.Message, lookup: Lookup, turn: int) -> dns.message.Message | None:
    """The response, or None when the question is for someone else."""
    response = dns.message.make_response(query, recursion_available=True)
    if len(query.question) != 1:
        response.set_rcode(dns.rcode.FORMERR)
        return response
    question = query.question[0]
    name = question.name.to_text(omit_final_dot=True).lower()
    addresses = lookup(name)
    if addresses is None:
        if "." in name and not name.startswith("tasks."):
            return None
        response.set_rcode(dns.rcode.NXDOMAIN)
        return response
    if addresses and question.rdtype in (dns.rdatatype.A, dns.rdatatype.ANY):
        first = turn % len(addresses)
        turned = (addresses[first:] + addresses[:first])[:MOST]
        response.answer.append(dns.rrset.from_text_list(question.name, TTL, dns.rdataclass.IN, dns.rdatatype.A, turned))
    return response


def failure(query: dns.message.Message) -> dns.message.Message:
    """No resolver of the node answered."""
    response = dns.message.make_response(query, recursion_available=True)
    response.set_rcode(dns.rcode.SERVFAIL)
    return response
