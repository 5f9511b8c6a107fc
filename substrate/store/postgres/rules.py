"""Standing rules in Postgres. Each function is one statement."""

from collections.abc import Sequence

from substrate.store import gate_rows
from substrate.store.postgres.session import Cursor
from substrate.values.gates import Rule

_INSERT = f"""
INSERT INTO rules ({gate_rows.RULE_COLUMNS}, tenant)
VALUES ({", ".join(f"%({name})s" for name in gate_rows.RULE_FIELDS)}, '')
"""

_SELECT = f"""
SELECT {gate_rows.RULE_COLUMNS}
  FROM rules
 ORDER BY created_at, id
"""

_DELETE = """
DELETE FROM rules
 WHERE id = %s
RETURNING id
"""


async def add_rule(db: Cursor, rule: Rule) -> None:
    """Add a rule."""
    await db.execute(_INSERT, gate_rows.rule_parameters(rule))


async def read_rules(db: Cursor) -> Sequence[Rule]:
    """Return all rules, oldest first; those that are over, too."""
    return [gate_rows.rule(row) for row in await (await db.execute(_SELECT)).fetchall()]


async def remove_rule(db: Cursor, rule_id: str) -> bool:
    """Remove a rule; False where there is none."""
    return await (await db.execute(_DELETE, (rule_id,))).fetchone() is not None
