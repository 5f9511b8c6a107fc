"""What runs that have ended leave open, which should be nothing."""

from tests.stores import database

_LEFT_OPEN = """
SELECT promises.id
  FROM promises
  JOIN runs ON runs.id = promises.run_id AND runs.part = promises.part
  LEFT JOIN runs AS child ON child.id = promises.id AND promises.kind = 'child'
 WHERE promises.state = 'pending'
   AND (runs.status IN ('done', 'failed', 'cancelled')
        OR runs.status = 'dead' AND (promises.kind = 'run' OR child.status = 'dead'))
   AND (child.id IS NULL OR child.status IN ('done', 'failed', 'cancelled', 'dead'))
 ORDER BY promises.id
"""


def left_open(url: str) -> list[str]:
    """Return what is pending, and never will be settled, in runs that have ended.

    A dead run keeps open what it goes on with when it is resumed; a child that lives on when its
    parent has ended settles its promise itself.
    """
    with database(url) as db:
        return [id_ for (id_,) in db.rows(_LEFT_OPEN)]
