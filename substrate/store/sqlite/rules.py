"""Standing rules in SQLite. Each function is one statement."""

from collections.abc import Sequence

import apsw

from substrate.store import gate_rows
from substrate.values.gates import Rule

_INSERT = f"""
INSERT INTO rules ({gate_rows.RULE_COLUMNS}, tenant)
VALUES ({", ".join(f":{name}" for name in gate_rows.RULE_FIELDS)}, '')
"""

_SELECT = f"""
SELECT {gate_rows.RULE_COLUMNS}
  FROM rules
 ORDER BY created_at, id
"""

_DELETE = """
DELETE FROM rules
 WHERE id = ?
RETURNING id
"""


def add_rule(db: apsw.Connection, rule: Rule) -> None:
    """Add a rule."""
    db.execute(_INSERT, dict(gate_rows.rule_parameters(rule)))


def read_rules(db: apsw.Connection) -> Sequence[Rule]:
    """Return all rules, oldest first; those that are over, too."""
    return [gate_rows.rule(row) for row in db.execute(_SELECT).fetchall()]


def remove_rule(db: apsw.Connection, rule_id: str) -> bool:
    """Remove a rule; False where there is none."""
    return db.execute(_DELETE, (rule_id,)).fetchone() is not None
