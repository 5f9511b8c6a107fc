-- Makes in `public` what a tenant may: operators, functions and types by the names that a program's
-- statements use, for every pair of types that its values may have or become.
--
--     SELECT planter.plant(operators, functions)   how many were made
--     SELECT planter.called()                      which was called, or NULL
--
-- The types are those of the tables in `public`, their arrays, what becomes one of these by itself
-- or what one of these becomes, and what stands for any type. A call is noted in a sequence, which
-- no rollback takes back.

CREATE SCHEMA planter;
CREATE TYPE public.lure AS ENUM ('run', '#');
CREATE TABLE planter.planted (n bigint, what text);
CREATE SEQUENCE planter.call;
CREATE SEQUENCE planter.number;
CREATE SEQUENCE planter.made;

CREATE FUNCTION planter.types() RETURNS regtype[] LANGUAGE sql SET search_path = pg_catalog AS $$
    WITH used AS (
        SELECT DISTINCT atttypid AS type
          FROM pg_attribute
          JOIN pg_class ON pg_class.oid = attrelid
         WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' AND attnum > 0
           AND NOT attisdropped
    ), near AS (
        SELECT type FROM used
         UNION
        SELECT casttarget FROM pg_cast JOIN used ON castsource = type WHERE castcontext = 'i'
         UNION
        SELECT castsource FROM pg_cast JOIN used ON casttarget = type WHERE castcontext = 'i'
         UNION
        SELECT typarray FROM used JOIN pg_type ON oid = type WHERE typarray <> 0
    )
    SELECT array_agg(type::regtype ORDER BY type) || ARRAY[
               'anyelement', 'anyarray', 'anycompatible', 'public.lure']::regtype[]
      FROM near
$$;

-- What a planted function does: note its number, and fail.
CREATE FUNCTION planter.body(what text) RETURNS text
LANGUAGE plpgsql SET search_path = pg_catalog AS $$
DECLARE
    number bigint := nextval('planter.number'::regclass);
BEGIN
    INSERT INTO planter.planted VALUES (number, what);
    RETURN format('LANGUAGE plpgsql AS $f$ BEGIN'
                  ' PERFORM pg_catalog.setval(''planter.call''::pg_catalog.regclass, %s::bigint);'
                  ' RAISE EXCEPTION ''planted %%'', %L; END $f$', number, what);
END $$;

CREATE FUNCTION planter.plant(operators text[], functions text[]) RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog AS $$
DECLARE
    types regtype[];
    l regtype;
    r regtype;
    name text;
    result regtype;
    is_set boolean;
    has_two boolean;
    made text;
BEGIN
    types := planter.types();

    FOREACH l IN ARRAY types LOOP
        FOREACH r IN ARRAY types LOOP
            FOREACH name IN ARRAY operators LOOP
                result := CASE WHEN name ~ '[<>=~]' THEN 'boolean' ELSE l END;
                made := format('public.planted_%s(%s, %s)', nextval('planter.made'), l, r);
                EXECUTE format('CREATE FUNCTION %s RETURNS %s %s', made, result,
                               planter.body(format('%s %s %s', l, name, r)));
                EXECUTE format('CREATE OPERATOR public.%s (FUNCTION = %s, LEFTARG = %s, RIGHTARG = %s)',
                               name, split_part(made, '(', 1), l, r);
            END LOOP;
        END LOOP;
    END LOOP;

    -- Those of a name return what the catalogue's own returns.
    FOR name, result, is_set, has_two IN
        SELECT DISTINCT ON (proname) proname, prorettype, proretset, pronargs = 2
          FROM pg_proc
         WHERE pronamespace = 'pg_catalog'::regnamespace AND proname = ANY (functions)
         ORDER BY proname, pronargs = 2 DESC
    LOOP
        IF result::text LIKE 'any%' THEN
            result := 'text';
        END IF;
        made := format('RETURNS %s %s', CASE WHEN is_set THEN 'SETOF' ELSE '' END, result);
        FOREACH l IN ARRAY types LOOP
            EXECUTE format('CREATE FUNCTION public.%I(%s) %s %s', name, l, made,
                           planter.body(format('%s(%s)', name, l)));
            FOREACH r IN ARRAY CASE WHEN has_two THEN types ELSE ARRAY[]::regtype[] END LOOP
                EXECUTE format('CREATE FUNCTION public.%I(%s, %s) %s %s', name, l, r, made,
                               planter.body(format('%s(%s, %s)', name, l, r)));
            END LOOP;
        END LOOP;
    END LOOP;

    -- Types by the names of the catalogue's, which cannot be made without a call; and casts.
    FOREACH l IN ARRAY types LOOP
        IF l::text NOT LIKE 'any%' AND l <> 'public.lure'::regtype THEN
            EXECUTE format('CREATE FUNCTION public.check_%s(pg_catalog.text) RETURNS boolean %s',
                           l::oid, planter.body(format('the type %s', l)));
            SELECT typname INTO name FROM pg_type WHERE oid = l;
            EXECUTE format('CREATE DOMAIN public.%I AS pg_catalog.text CHECK (public.check_%s(VALUE))',
                           name, l::oid);
            EXECUTE format('CREATE FUNCTION public.cast_%s(public.lure) RETURNS %s %s', l::oid, l,
                           planter.body(format('a cast to %s', l)));
            EXECUTE format('CREATE CAST (public.lure AS %s) WITH FUNCTION public.cast_%s(public.lure)'
                           ' AS IMPLICIT', l, l::oid);
            EXECUTE format('CREATE FUNCTION public.from_%s(%s) RETURNS public.lure %s', l::oid, l,
                           planter.body(format('a cast from %s', l)));
            EXECUTE format('CREATE CAST (%s AS public.lure) WITH FUNCTION public.from_%s(%s)'
                           ' AS IMPLICIT', l, l::oid, l);
        END IF;
    END LOOP;
    RETURN (SELECT count(*) FROM planter.planted);
END $$;

CREATE FUNCTION planter.called() RETURNS text LANGUAGE sql SET search_path = pg_catalog AS $$
    SELECT what FROM planter.planted, planter.call WHERE n = last_value AND is_called
$$;
