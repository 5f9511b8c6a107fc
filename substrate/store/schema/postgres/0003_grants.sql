-- A child's grant: what it may use of its parent's budget, {"usd": …, "tokens": …}. It is written
-- with the child's row and never changed. While the child is open it counts as spent; afterwards what
-- the child has used counts in its place.

ALTER TABLE promises ADD COLUMN granted json;
