"""`--version`: which kit this is, for whoever reports what it did."""

import sys

from substrate.cli.exit import Exit
from substrate.cli.invocation import Invocation
from substrate.cli.json_output import print_document
from substrate.installed import DISTRIBUTION, origin, version


def tell_version(invocation: Invocation) -> int:
    """Print the version, and the commit, folder or file that the kit was installed from."""
    if invocation.is_json:
        print_document({"version": version(), "origin": origin()})
    else:
        sys.stdout.write(f"{DISTRIBUTION} {version()}{f' ({origin()})' if origin() else ''}\n")
    return Exit.DONE
