-- A generation of a run keeps what it was called with in a row of its own, `g1`, `g2` and so on. Those
-- that were begun before this kept it in the run's own row, in the place of what came before.

INSERT INTO promises (id, part, tenant, run_id, key, seq, kind, name, state, input, epoch,
                      created_at, settled_at)
SELECT runs.id || '#g'::text || runs.generation::text, runs.part, runs.tenant, runs.id,
       'g'::text || runs.generation::text, runs.generation_seq, 'run', runs.function, 'resolved', own.input,
       runs.epoch, runs.generation_at, runs.generation_at
  FROM runs
  JOIN promises AS own ON own.id = runs.id AND own.part = runs.part
 WHERE runs.generation > 0;
