-- Signals that nobody has taken, by name, in order: what a run asks for at each one it takes, however
-- many it was sent.

CREATE INDEX signals_untaken ON signals (run_id, name, n, part) WHERE taken_by IS NULL;
