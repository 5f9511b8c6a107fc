"""`memory reindex`: the vectors of a namespace are made anew."""

from rich.text import Text

from substrate.agent.embedders import embedder_named
from substrate.cli.database import opened
from substrate.cli.environment import tenant
from substrate.cli.errors import UsageError
from substrate.cli.invocation import Invocation
from substrate.cli.json_output import print_document
from substrate.cli.screen import open_screen, put
from substrate.memory.embedder import Embedder
from substrate.memory.nearest import reindex
from substrate.values.errors import InvalidId, Misuse
from substrate.values.memory import Space, check_namespace


async def remake(invocation: Invocation, namespace: str, embed: str | None) -> int:
    """Make the vectors of a namespace anew; say of how many texts."""
    try:
        space = Space(tenant(), check_namespace(namespace))
        embedder = None if embed is None else embedder_named(embed)
    except (InvalidId, Misuse) as error:
        raise UsageError(str(error)) from None
    async with opened(invocation) as client:
        memory = client.store.memory
        if embedder is None:
            known = await memory.vectors.embedder(space)
            if known is None:
                raise UsageError(f"{namespace!r} has no vectors yet; name an embedder with --embed")
            embedder = _known(known.model)
        try:
            texts = await reindex(memory, space, embedder)
        except Misuse as error:
            raise UsageError(str(error)) from None
    if invocation.is_json:
        told = {"namespace": namespace, "embedder": embedder.name, "texts": texts}
        print_document(told)
    else:
        put(open_screen(), Text(f"{texts} texts have vectors of {embedder.name}"))
    return 0


def _known(name: str) -> Embedder:
    try:
        return embedder_named(name)
    except Misuse:
        raise UsageError(
            f"its vectors are of {name!r}, which is no embedder of the kit's; name one with "
            "--embed, or call `reindex` of substrate.memory.nearest with yours"
        ) from None
