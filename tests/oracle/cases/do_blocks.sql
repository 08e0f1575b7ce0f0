-- DO blocks

-- [do_static]
do $$ begin
    alter table orders add column c int;
    create index i on users (name);
end $$;

-- [do_harmless]
do $$ begin
    perform 1;
end $$;

-- [do_execute_constant]
do $$ begin
    execute 'create index i on orders (nn)';
end $$;

-- [do_execute_concatenated_constants]
do $$ begin
    execute 'alter table orders ' || 'add column c float8 default random()';
end $$;

-- [do_loop]
do $$
declare n int;
begin
    for n in 1..2 loop
        alter table orders alter column nn set not null;
    end loop;
end $$;

-- [do_if_not_exists] one branch or the other
do $$ begin
    if not exists (select 1 from pg_indexes where indexname = 'i') then
        create index i on orders (nn);
    end if;
end $$;

-- [do_exception]
do $$ begin
    alter table orders add constraint k check (qty >= 0);
exception when duplicate_object then
    null;
end $$;

-- [do_create_type_if_missing] what many revisions do
do $$ begin
    create type mood as enum ('a');
exception when duplicate_object then null;
end $$;

-- [do_execute_format] the text is made while it runs
do $$
declare t text := 'orders';
begin
    execute format('alter table %I add column c float8 default random()', t);
end $$;

-- [do_loop_over_tables] the text is made while it runs
do $$
declare r record;
begin
    for r in select tablename from pg_tables where tablename in ('orders', 'unl') loop
        execute 'alter table ' || r.tablename || ' add column c float8 default random()';
    end loop;
end $$;

-- [do_batches] updates row by row, no lock that anybody waits for
do $$ begin
    update users set name = 'x' where id = 1;
    update users set name = 'y' where id = 2;
end $$;

-- [do_concurrently]
do $$ begin
    create index concurrently i on orders (nn);
end $$;

-- [do_raises]
do $$ begin
    raise exception 'not today';
end $$;

-- [do_declares_then_alters]
do language plpgsql $body$
declare
    wanted int := 5;
begin
    -- nothing in a comment counts: create index x on users (name);
    wanted := wanted + 1;
    alter table unl alter column x set default 7;
end $body$;

-- [do_after_ddl] what the transaction holds, the block works under
alter table users add column c int;
do $$ begin
    update unl set x = x + 1;
end $$;
