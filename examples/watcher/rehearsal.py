"""A model for rehearsals: it compares the page with what was told, line by line."""

import json
import re

from substrate.models.messages import Reply
from substrate.models.providers.scripted import say
from substrate.models.request import Request

FACT = re.compile(r"The (?P<subject>\w+) (?P<predicate>\w+ on) (?P<value>.+)\.")


def rehearse(request: Request) -> Reply:
    """Give the lines of the page that were not told before."""
    words = request.messages[0].to_json()["parts"][0]["text"]
    before, _, page = words.partition("\n\nThe page now:\n")
    told = set(before.splitlines())
    notices = [line for line in page.splitlines() if line.strip() and line not in told]
    found = [match for line in notices if (match := FACT.fullmatch(line))]
    facts = [match.groupdict() for match in found]
    return say(json.dumps({"notices": notices, "facts": facts}))
